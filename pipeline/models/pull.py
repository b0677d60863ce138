"""Pull a model from the hub: resumable, checked against the hub's hashes, and there as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.errors import PrepError
from pipeline.models.catalog import CatalogEntry, known
from pipeline.models.convert_pickle import to_safetensors
from pipeline.models.hub_errors import OFFLINE, hub_error, translate_errors
from pipeline.models.hub_files import PICKLES, choose_files
from pipeline.models.store import (
    PART,
    RECORD,
    Pulled,
    PulledFile,
    format_bytes,
    home_of,
    hub_id,
    read_record,
    unchanged,
)
from pipeline.workspace import file_sha256, write_atomic

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SPARE = 100_000_000  # bytes that a pull leaves free on the disk

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What to pull."""

    hub: str
    entry: CatalogEntry | None = None
    revision: str = ""  # empty: the list's, else the newest
    files: tuple[str, ...] = ()  # patterns; empty: what a model of its kind needs
    endpoint: str | None = None  # None: $HF_ENDPOINT, else the hub's own

    @property
    def place(self) -> str:
        """The server that has it."""
        from huggingface_hub import constants

        if self.entry and self.entry.url:
            return "/".join(self.entry.url.split("/")[:3])
        return self.endpoint or constants.ENDPOINT

    @classmethod
    def of(
        cls, model: str, revision: str = "", files: tuple[str, ...] = (), endpoint: str | None = None
    ) -> PullRequest:
        """From a short name or a hub id; PrepError when it is neither."""
        return cls(hub_id(model), known(model), revision, files, endpoint)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file to download."""

    name: str  # path inside the model's folder
    url: str
    size: int | None
    digest: str = ""  # what the server calls it: sha256, or git's sha1 of small files; empty: to be asked for


@dataclass(frozen=True, slots=True)
class PullPlan:
    """A pull whose files are known."""

    wish: PullRequest
    revision: str  # commit
    sources: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        return sum(source.size or 0 for source in self.sources)


def pull(wish: PullRequest, offline: bool = False, report: Report | None = None) -> Pulled:
    """The model, downloaded unless a whole pull of it is there already; `report` gets bytes done and in all.

    Files come into a folder beside the final one, which takes its place when each is whole and fits
    the hash that the hub states. PrepError says what stood in the way; what came so far is kept.
    """
    if (here := _here(wish)) is not None:
        return here
    if offline:
        raise hub_error(wish.hub, f"{wish.hub} is not on this machine, and {OFFLINE}.")
    with _alone(wish.hub), translate_errors(wish.hub, wish.place):
        plan = make_plan(wish)
        if (here := _here(replace(wish, revision=plan.revision))) is not None:
            return here
        part = part_of(wish.hub)
        _check_space(plan, part)
        entries = _download_all(plan, part, report or (lambda done, total: None))
        pulled = Pulled(wish.hub, plan.revision, entries)
        _finish(part, pulled)
    return pulled


def part_of(hub: str) -> Path:
    """The folder in which a pull works."""
    home = home_of(hub)
    return home.with_name(f".{home.name}{PART}")


def make_plan(wish: PullRequest) -> PullPlan:
    """Ask the hub which files there are, and choose."""
    from huggingface_hub import HfApi, hf_hub_url

    entry = wish.entry
    if entry and entry.url:
        return PullPlan(wish, entry.revision, (RemoteFile(entry.files[0], entry.url, entry.size, entry.sha256),))
    revision = wish.revision or (entry.revision if entry else "main")
    try:
        info = HfApi(endpoint=wish.endpoint).model_info(wish.hub, revision=revision, files_metadata=True)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise hub_error(wish.hub, "The server does not answer as a model hub does; see HF_ENDPOINT.") from None
    commit = info.sha or ""
    if not _COMMIT.fullmatch(commit):
        raise hub_error(wish.hub, f"The server does not say which commit of {wish.hub} it has.")
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or ()}
    sources = tuple(
        RemoteFile(inside, hf_hub_url(wish.hub, name, revision=commit, endpoint=wish.endpoint), sizes[name])
        for name, inside in choose_files(wish.hub, tuple(sizes), entry, wish.files).items()
    )
    return PullPlan(wish, commit, sources)


def _download_all(plan: PullPlan, part: Path, report: Report) -> dict[str, PulledFile]:
    """Every file of the plan in `part`, whole, and nothing else there."""
    entries: dict[str, PulledFile] = {}
    before = 0
    for source in plan.sources:
        source = _asked(plan, source)
        path = part / source.name
        _download(plan, source, path, partial(_add, report, before, plan.size))
        before += path.stat().st_size
        entries |= _entry(source, path)
    kept = {part / name for name in entries}
    for stray in [path for path in part.rglob("*") if path.is_file() and path not in kept]:
        stray.unlink()
    return entries


def _add(report: Report, before: int, size: int, done: int) -> None:
    report(before + done, max(size, before + done))


def _asked(plan: PullPlan, source: RemoteFile) -> RemoteFile:
    """The source with the size and the digest that the server states for this commit."""
    from huggingface_hub import get_hf_file_metadata

    if source.digest:
        return source
    head = get_hf_file_metadata(source.url, endpoint=plan.wish.endpoint)
    if head.commit_hash != plan.revision:
        raise hub_error(
            plan.wish.hub, f"The server gives {source.name} of commit {head.commit_hash}, not of {plan.revision}."
        )
    return replace(source, size=head.size if head.size is not None else source.size, digest=head.etag or "")


def _download(plan: PullPlan, source: RemoteFile, path: Path, report: Callable[[int], None]) -> None:
    """`path` whole and with the right digest; goes on where an earlier try broke off."""
    if path.is_file() and source.digest and digest_of(path, source.digest) == source.digest:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # The digest decides its name: what was begun of another version is not gone on with.
    mark = hashlib.sha256(source.digest.encode()).hexdigest()[:16]
    begun = path.with_name(f"{path.name}.{mark}.incomplete")
    if source.size is not None and begun.is_file() and begun.stat().st_size > source.size:
        begun.unlink()
    with begun.open("ab" if source.digest else "wb") as file:
        _get(plan, source, file, report)
    if source.digest and (got := digest_of(begun, source.digest)) not in ("", source.digest):
        begun.unlink()
        wrong = f"{source.name} of {plan.wish.hub} came damaged: its hash is {got[:12]}"
        raise hub_error(plan.wish.hub, f"{wrong}, the server states {source.digest[:12]}.", "It was deleted. ")
    begun.replace(path)


def _get(plan: PullPlan, source: RemoteFile, file: BinaryIO, report: Callable[[int], None]) -> None:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, disable_progress_bars, logging  # type: ignore[attr-defined]

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    disable_progress_bars("huggingface_hub.http_get")
    on_hub = not (plan.wish.entry and plan.wish.entry.url)
    headers = (build_hf_headers() if on_hub else {}) | {"Accept-Encoding": "identity"}
    counted: Any = _Counted(file, report)
    http_get(source.url, counted, resume_size=file.tell(), headers=headers, expected_size=source.size)


class _Counted:
    """A file that reports how long it is after every write."""

    def __init__(self, file: BinaryIO, report: Callable[[int], None]) -> None:
        self.file = file
        self.report = report

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: bytes) -> int:
        written = self.file.write(data)
        self.report(self.file.tell())
        return written


def digest_of(path: Path, like: str) -> str:
    """The file's digest of the kind that `like` is: sha256, or sha1 of a git blob; empty for another kind."""
    if len(like) == 64:
        return file_sha256(path)
    if len(like) != 40:
        return ""
    sha = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            sha.update(data)
    return sha.hexdigest()


def _entry(source: RemoteFile, path: Path) -> dict[str, PulledFile]:
    """What to record of a file; a pickle's tensors are written as safetensors, which take its place."""
    name = source.name
    sha = source.digest if len(source.digest) == 64 else file_sha256(path)  # a sha256 has just been compared
    if name not in PICKLES:
        return {name: PulledFile(path.stat().st_size, sha)}
    target = path.with_name(PICKLES[name])
    to_safetensors(path, target)
    return {target.name: PulledFile(target.stat().st_size, file_sha256(target), f"{name} sha256:{sha}")}


def _finish(part: Path, pulled: Pulled) -> None:
    """Write the record, then let the folder take its place; what lay there before is kept if it is the user's."""
    plain = asdict(pulled)
    write_atomic(part / RECORD, json.dumps(plain, indent=1).encode())
    home = home_of(pulled.name)
    if not home.exists():
        part.rename(home)
        return
    number = 1
    while (old := home.with_name(f"{home.name}.old{number}")).exists():
        number += 1
    before = _record(home)
    home.rename(old)
    part.rename(home)
    for name in (*before.files, RECORD) if before else ():
        (old / name).unlink(missing_ok=True)
    for folder in sorted((path for path in old.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    if not any(old.iterdir()):
        old.rmdir()


def _here(wish: PullRequest) -> Pulled | None:
    """The whole pull that fits the wish without asking the hub."""
    home = home_of(wish.hub)
    pulled = _record(home)
    if pulled is None or not unchanged(home, pulled) or wish.revision not in ("", pulled.revision):
        return None
    needs = wish.files or (wish.entry.files if wish.entry else ())
    return pulled if all(any(fnmatchcase(name, need) for name in pulled.files) for need in needs) else None


def _record(home: Path) -> Pulled | None:
    """The record in a folder that a pull may replace; a damaged one is as good as none."""
    try:
        return read_record(home)
    except PrepError:
        return None


def _check_space(plan: PullPlan, part: Path) -> None:
    part.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
    free = shutil.disk_usage(part).free
    if (need := plan.size - there + _SPARE) > free:
        raise hub_error(
            plan.wish.hub,
            f"{part.parent} has {format_bytes(free)} free; {plan.wish.hub} needs {format_bytes(need)} there.",
        )


@contextmanager
def _alone(hub: str) -> Iterator[None]:
    """Hold the model's lock, so that two pulls of the same model do not write the same files."""
    from filelock import FileLock, Timeout

    part = part_of(hub)
    part.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(part.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PrepError(f"Another prep is pulling {hub}.", "Wait until it ends, then give the command again.") from None
    try:
        yield
    finally:
        lock.release()
