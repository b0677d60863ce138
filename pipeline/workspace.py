"""The workspace: one folder per project, its layout, and the lock against two writing commands."""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.ranks import is_main_process

RECIPE = "prep.toml"


@dataclass(frozen=True, slots=True)
class Workspace:
    """A project folder; prep writes nowhere else."""

    root: Path

    @classmethod
    def find(cls, start: Path) -> Workspace:
        """The workspace that holds `start`: the nearest folder, from `start` upwards, with a prep.toml."""
        start = start.resolve()
        for folder in (start, *start.parents):
            if (folder / RECIPE).is_file():
                return cls(folder)
        raise PrepError(
            f"{start} is not inside a prep workspace.", "Create one: prep init DIR --subject TOKEN CLASS FOLDER"
        )

    @property
    def recipe(self) -> Path:
        return self.root / RECIPE

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def dataset(self) -> Path:
        return self.root / "dataset"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def manifest(self, stage: str) -> Path:
        return self.root / "manifests" / f"{stage}.parquet"

    def path(self, relative: str) -> Path:
        """A file of prep's, from its path in a manifest; PrepError if it is outside the workspace.

        Manifests are shared between people, so their paths are not trusted.
        """
        path = Path(os.path.normpath(self.root / relative))
        if not path.is_relative_to(self.root) or path == self.root:
            raise PrepError(
                f"The manifest names {relative!r}, which is outside {self.root}.", "Use a manifest that you trust."
            )
        return path

    def source(self, relative: str) -> Path:
        """The user's file that a record came from; may be outside the workspace, and is only read."""
        return Path(os.path.normpath(self.root / relative))

    def resolve(self, text: str) -> Path:
        """A path as a user gave it: relative to the workspace, as in prep.toml, else to the current folder."""
        inside = self.root / Path(text).expanduser()
        return inside if inside.exists() else Path.cwd() / Path(text).expanduser()

    def relative(self, path: Path) -> str:
        """`path` as manifests store it: relative to the workspace, with forward slashes."""
        return Path(os.path.relpath(path, self.root)).as_posix()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the workspace for one writing command; the system releases the lock if prep is killed."""
        if not is_main_process():
            yield  # the main process holds it for all
            return
        from filelock import FileLock, Timeout

        self.cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.cache / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise PrepError(
                f"Another prep command is working in {self.root}.", "Wait until it ends, then run the command again."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def sweep(self) -> None:
        """Delete temporary files of a killed prep; call it only with the lock held."""
        if not is_main_process():
            return
        for pattern in ("images/??/.*.tmp", "manifests/.*.tmp", "manifests/.parts/*/.*.tmp", "cache/**/.*.tmp"):
            for file in self.root.glob(pattern):
                file.unlink()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file next to `path`, renamed to it at the end and deleted on an error: a complete file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o644)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a complete file or none; data too large for memory may be given in pieces."""
    with whole_file(path) as draft, draft.open("wb") as file:
        file.writelines([data] if isinstance(data, bytes) else data)


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_name(text: str) -> str:
    """`text` as a file name for every system and for kohya's scripts: letters of any script, digits and '-'.

    Lower case and in Unicode's composed form, so that systems which fold either name the same file. Without '_', on
    which kohya's scripts split paths to find a caption.
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    words = "".join(char if char.isalnum() or _is_mark(char) else " " for char in plain).split()
    whole = ("".join(itertools.dropwhile(_is_mark, word)) for word in words)  # without a mark on no letter
    return "-".join(filter(None, whole)) or "x"


def _is_mark(char: str) -> bool:
    """Whether a character is part of the letter before it: the vowels of Hindi and Thai, some accents."""
    return unicodedata.category(char).startswith("M")
