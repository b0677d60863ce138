"""Download one file with huggingface_hub into a folder, verified against the hash that the hub lists for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.models.digest import digest_like
from pipeline.models.hub_errors import hub_error

ByteCount = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file to download."""

    repo_id: str
    revision: str  # commit
    name: str  # path in the repository
    path: str  # path in the model's folder
    size: int | None
    digest: str  # sha256, or git blob sha1; empty where the server states none
    url: str = ""  # for a file that is not on the hub


def download(file: RemoteFile, folder: Path, endpoint: str | None, report: ByteCount) -> Path:
    """The file in `folder`, complete and verified; one that is there already is not downloaded again.

    A connection that breaks is resumed by the library where it was. PrepError when the bytes do not have
    the listed hash; they are deleted.
    """
    target = folder / file.path
    if is_intact(target, file):
        return target
    target.unlink(missing_ok=True)
    arrived = _from_url(file, folder, report) if file.url else _from_hub(file, folder, endpoint, report)
    if not is_intact(arrived, file):
        actual = digest_like(arrived, file.digest)
        arrived.unlink()
        raise hub_error(
            file.repo_id,
            f"{file.path} of {file.repo_id} arrived damaged: its hash is {actual[:12]}, not {file.digest[:12]}.",
            "It was deleted. ",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    return arrived.replace(target)


def is_intact(path: Path, file: RemoteFile) -> bool:
    """Whether `path` holds the file's bytes, as far as the server states a hash; else its size."""
    if not path.is_file():
        return False
    if file.digest and (digest := digest_like(path, file.digest)):
        return digest == file.digest
    return path.stat().st_size == file.size


def _from_hub(file: RemoteFile, folder: Path, endpoint: str | None, report: ByteCount) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    _silence()
    cached = try_to_load_from_cache(file.repo_id, file.name, revision=file.revision)
    intact = isinstance(cached, str) and is_intact(Path(cached), file)
    path = hf_hub_download(
        file.repo_id,
        file.name,
        revision=file.revision,
        local_dir=folder,
        endpoint=endpoint,
        tqdm_class=_progress_bar(report),
        cache_dir=None if intact else folder / ".cache",  # never a damaged copy from the Hugging Face cache
    )
    return Path(path)


def _from_url(file: RemoteFile, folder: Path, report: ByteCount) -> Path:
    from huggingface_hub.file_download import http_get

    _silence()
    path = folder / f"{file.name}.incomplete"
    with path.open("wb") as opened:
        headers = {"Accept-Encoding": "identity"}
        http_get(file.url, opened, headers=headers, expected_size=file.size, tqdm_class=_progress_bar(report))
    return path


def _silence() -> None:
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def _progress_bar(report: ByteCount) -> Any:
    """A tqdm class for huggingface_hub that draws nothing and reports the bytes of one file.

    Xet downloads make two bars, bytes received and bytes written: the larger number counts.
    """
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    highest = 0

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            options["disable"] = True
            super().__init__(*args, **options)  # type: ignore[no-untyped-call]
            self.n = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            nonlocal highest
            self.n += int(n or 0)
            if self.n > highest:
                highest = self.n
                report(highest)

    return Bar
