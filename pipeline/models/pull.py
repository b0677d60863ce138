"""Download a model from the hub: verified against the hub's hashes, and installed completely or not at all."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.models.catalog import CatalogEntry, catalog_entry
from pipeline.models.convert_pickle import to_safetensors
from pipeline.models.download import RemoteFile, download
from pipeline.models.hub_errors import OFFLINE, hub_error, translate_errors
from pipeline.models.hub_files import PICKLES, choose_files
from pipeline.models.onnx_external_data import GRAPH, external_data
from pipeline.models.pull_record import RECORD, PulledFile, PulledModel, read_record, sizes_match, write_record
from pipeline.models.store import PART, format_bytes, model_folder, resolve_repo_id
from pipeline.workspace import file_sha256

_COMMIT = re.compile(r"[0-9a-f]{40}")
_KEEP_FREE = 100_000_000  # bytes of disk space that a download leaves free

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A model to download."""

    repo_id: str
    entry: CatalogEntry | None = None
    revision: str = ""  # empty: the catalog's, else the newest
    files: tuple[str, ...] = ()  # patterns; empty: what a model of its kind needs
    endpoint: str | None = None  # None: $HF_ENDPOINT, else the hub's own

    @property
    def server(self) -> str:
        """The server to download from."""
        from huggingface_hub import constants

        if self.entry and self.entry.url:
            return "/".join(self.entry.url.split("/")[:3])
        return self.endpoint or constants.ENDPOINT

    @property
    def commit(self) -> str:
        """The revision to ask for: the requested one, else the catalog's; empty for the newest."""
        return self.revision or (self.entry.revision if self.entry else "")

    @classmethod
    def of(
        cls, model: str, revision: str = "", files: tuple[str, ...] = (), endpoint: str | None = None
    ) -> PullRequest:
        """From a short name or a hub id; PrepError when it is neither."""
        return cls(resolve_repo_id(model), catalog_entry(model), revision, files, endpoint)


def pull(request: PullRequest, offline: bool = False, report: Report | None = None) -> PulledModel:
    """The model in prep's models folder, downloaded unless it is complete there; `report` gets bytes done and total.

    Files arrive in a hidden folder that takes the final name when each is complete and has the hash that
    the hub lists. PrepError says what went wrong; complete files are kept for the next try.
    """
    if (installed := _installed(request)) is not None:
        return installed
    if offline:
        raise hub_error(request.repo_id, f"{request.repo_id} is not on this machine, and {OFFLINE}.")
    with _locked(request.repo_id), translate_errors(request.repo_id, request.server):
        commit, files = list_files(request)
        if (installed := _installed(replace(request, revision=commit))) is not None:
            return installed
        part = part_folder(request.repo_id)
        _check_space(request.repo_id, files, part)
        pulled = PulledModel(request.repo_id, commit, _download_all(request, files, part, report))
        _install(part, pulled)
    return pulled


def part_folder(repo_id: str) -> Path:
    """The folder in which an unfinished download is kept."""
    folder = model_folder(repo_id)
    return folder.with_name(f".{folder.name}{PART}")


def list_files(request: PullRequest) -> tuple[str, list[RemoteFile]]:
    """The commit, and its files to download, as the hub lists them."""
    from huggingface_hub import HfApi

    repo_id, entry = request.repo_id, request.entry
    if entry and entry.url:
        name = entry.files[0]
        return entry.revision, [RemoteFile(repo_id, entry.revision, name, name, entry.size, entry.sha256, entry.url)]
    try:
        hub = HfApi(endpoint=request.endpoint)
        info = hub.model_info(repo_id, revision=request.commit or "main", files_metadata=True)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise hub_error(repo_id, "The server does not answer as a model hub does; see HF_ENDPOINT.") from None
    commit = info.sha or ""
    if not _COMMIT.fullmatch(commit):
        raise hub_error(repo_id, f"The server does not say which commit of {repo_id} it has.")
    listed = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    files = []
    for name, path in choose_files(repo_id, tuple(listed), entry, request.files).items():
        sibling = listed[name]
        digest = (sibling.lfs.sha256 if sibling.lfs else sibling.blob_id) or ""
        files.append(RemoteFile(repo_id, commit, name, path, sibling.size, digest))
    return commit, files


def _download_all(
    request: PullRequest, files: list[RemoteFile], part: Path, report: Report | None
) -> dict[str, PulledFile]:
    """Download every file into `part`, and remove everything else there."""
    total = sum(file.size or 0 for file in files)
    records: dict[str, PulledFile] = {}
    before = 0
    for file in files:

        def count(done: int, before: int = before) -> None:
            if report:
                report(before + done, max(total, before + done))

        path = download(file, part, request.endpoint, count)
        before += path.stat().st_size
        count(0, before)
        records |= _record(file, path)
    shutil.rmtree(part / ".cache", ignore_errors=True)  # bookkeeping of huggingface_hub
    for stray in [path for path in part.rglob("*") if path.is_file()]:
        if stray.relative_to(part).as_posix() not in records:
            stray.unlink()
    _remove_empty_folders(part)
    return records


def _record(file: RemoteFile, path: Path) -> dict[str, PulledFile]:
    """What to record of a file; a pickle is replaced by its tensors as safetensors."""
    sha = file.digest if len(file.digest) == 64 else file_sha256(path)  # a sha256 has just been compared
    if file.path not in PICKLES:
        return {file.path: PulledFile(path.stat().st_size, sha)}
    target = path.with_name(PICKLES[file.path])
    to_safetensors(path, target)
    return {target.name: PulledFile(target.stat().st_size, file_sha256(target), f"{file.path} sha256:{sha}")}


def _install(part: Path, pulled: PulledModel) -> None:
    """Write the record and give the folder its final name; files of the user's that are there are moved to .oldN."""
    write_record(part, pulled)
    folder = model_folder(pulled.name)
    if not folder.exists():
        part.rename(folder)
        return
    number = 1
    while (old := folder.with_name(f"{folder.name}.old{number}")).exists():
        number += 1
    before = _valid_record(folder)
    folder.rename(old)
    part.rename(folder)
    for name in (*before.files, RECORD) if before else ():
        (old / name).unlink(missing_ok=True)
    _remove_empty_folders(old)
    if not any(old.iterdir()):
        old.rmdir()


def _remove_empty_folders(root: Path) -> None:
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def _installed(request: PullRequest) -> PulledModel | None:
    """The complete download that satisfies the request without asking the hub."""
    folder = model_folder(request.repo_id)
    pulled = _valid_record(folder)
    if pulled is None or not sizes_match(folder, pulled) or request.revision not in ("", pulled.revision):
        return None
    needs = request.files or (request.entry.files if request.entry else ())
    if not all((folder / name).is_file() for name in _weights_of_graphs(folder, pulled)):
        return None
    return pulled if all(any(fnmatchcase(name, need) for name in pulled.files) for need in needs) else None


def _weights_of_graphs(folder: Path, pulled: PulledModel) -> list[str]:
    """The files in which the downloaded ONNX graphs keep their weights; earlier versions left some of them out."""
    graphs = [name for name in pulled.files if name.endswith(GRAPH)]
    return [str(Path(graph).parent / name) for graph in graphs for name in external_data(folder / graph)]


def _valid_record(folder: Path) -> PulledModel | None:
    """The record of a folder that a download may replace; a damaged one counts as none."""
    try:
        return read_record(folder)
    except PrepError:
        return None


def _check_space(repo_id: str, files: list[RemoteFile], part: Path) -> None:
    part.mkdir(parents=True, exist_ok=True)
    for partial in part.rglob("*.incomplete"):  # of a killed process; the library begins such a file again
        partial.unlink()
    present = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
    free = shutil.disk_usage(part).free
    if (need := sum(file.size or 0 for file in files) - present + _KEEP_FREE) > free:
        raise hub_error(
            repo_id, f"{part.parent} has {format_bytes(free)} free; {repo_id} needs {format_bytes(need)} there."
        )


@contextmanager
def _locked(repo_id: str) -> Iterator[None]:
    """Hold the model's lock, so that two downloads of it do not write the same files."""
    from filelock import FileLock, Timeout

    part = part_folder(repo_id)
    part.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(part.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PrepError(
            f"Another prep is downloading {repo_id}.", "Wait until it ends, then run the command again."
        ) from None
    try:
        yield
    finally:
        lock.release()
