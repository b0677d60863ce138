"""Models in the user's Hugging Face cache, where diffusers, transformers and `hf download` put them.

Layout, as huggingface_hub documents it: `models--OWNER--NAME/snapshots/COMMIT/FILE`, each file a link to
`blobs/HASH`, where HASH is the sha256 of a large file and the git blob sha1 of a small one; `refs/BRANCH`
holds a commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.models.catalog import CACHED as _PREFIX
from pipeline.models.catalog import catalog_entry
from pipeline.models.digest import digest_like

_COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = (".onnx", ".safetensors", ".pt")


def find_snapshot(repo_id: str, files: Iterable[str] = (), revision: str = "") -> Path | None:
    """The folder of a model in the Hugging Face cache that has all `files` (names or patterns); None without one.

    Without a `revision` the catalog's commit is preferred, then the cached `main`, then the newest that another
    tool has cached. Files that the catalog names are needed too, unless `files` has the weights.
    """
    from huggingface_hub import constants

    repository = Path(constants.HF_HUB_CACHE) / f"{_PREFIX}{repo_id.replace('/', '--')}"
    return snapshot_in(repository, repo_id, tuple(files), revision)


def snapshot_in(repository: Path, repo_id: str, files: tuple[str, ...], revision: str = "") -> Path | None:
    """The same in the repository's own folder, models--OWNER--NAME, of any Hugging Face cache."""
    entry = catalog_entry(repo_id)
    has_weights = any(file.endswith(_WEIGHTS) for file in files)
    needed = {*files, *(entry.files if entry and not has_weights else ())}
    names = [revision] if revision else [entry.revision if entry else "main", "main"]
    commits = [name if _COMMIT.fullmatch(name) else _read_ref(repository / "refs" / name) for name in names]
    commits += [] if revision else _newest_first(repository)
    for commit in commits:
        snapshot = repository / "snapshots" / commit / (entry.subfolder if entry else "")
        if commit and all(has_file(snapshot, pattern) for pattern in needed) and snapshot.is_dir():
            return snapshot
    return None


def _newest_first(repository: Path) -> list[str]:
    """The commits of all snapshots; tools that ask for a commit leave no branch."""
    snapshots = [path for path in (repository / "snapshots").glob("*") if _COMMIT.fullmatch(path.name)]
    return [path.name for path in sorted(snapshots, key=lambda path: (-path.stat().st_mtime, path.name))]


def cached_models() -> list[str]:
    """The hub ids of the models in the Hugging Face cache, complete or not."""
    from huggingface_hub import constants

    names = [path.name.removeprefix(_PREFIX) for path in Path(constants.HF_HUB_CACHE).glob(f"{_PREFIX}*--*")]
    return sorted(name.replace("--", "/", 1) for name in names)


def snapshot_origin(folder: Path) -> tuple[str, str] | None:
    """Hub id and commit of a folder in a Hugging Face cache; None for any other folder."""
    for path in (folder, *folder.parents):
        snapshots = path.parent
        if snapshots.name == "snapshots" and snapshots.parent.name.startswith(_PREFIX):
            return snapshots.parent.name.removeprefix(_PREFIX).replace("--", "/", 1), path.name
    return None


def downloaded_commit(folder: Path) -> str:
    """The commit that `hf download --local-dir` notes in the folder for each file; empty unless all have the same."""
    notes = sorted((folder / ".cache" / "huggingface" / "download").rglob("*.metadata"))
    commits = {note.read_bytes()[:41].decode(errors="replace").strip() for note in notes if note.is_file()}
    commit = commits.pop() if len(commits) == 1 else ""
    return commit if _COMMIT.fullmatch(commit) else ""


def has_file(folder: Path, pattern: str) -> bool:
    """Whether a file in `folder` fits a name or pattern; a link to nothing is no file."""
    return any(path.is_file() for path in folder.glob(pattern))


def verify_snapshot(folder: Path) -> Iterator[tuple[str, str]]:
    """Hash every file of a snapshot again: its name, and 'ok' or 'changed'.

    Only links to a blob carry a hash; on systems without links there is nothing to compare with.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            blob = path.resolve()
            intact = blob.is_file() and digest_like(blob, blob.name) in ("", blob.name)
            yield path.relative_to(folder).as_posix(), "ok" if intact else "changed" if blob.is_file() else "missing"


def _read_ref(path: Path) -> str:
    try:
        commit = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    return commit if _COMMIT.fullmatch(commit) else ""
