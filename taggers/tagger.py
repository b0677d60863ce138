"""What a tagger is: it looks at cropped pictures and adds what it saw to their records."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeVar

from pipeline.decode import DAMAGE
from pipeline.errors import PrepError
from pipeline.picture import load_rgb
from pipeline.record import Annotation, Drop, Record
from pipeline.stage import Stage, Work
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
Look = Callable[["list[np.ndarray]"], list[list[Annotation]]]  # uint8 RGB, H x W x 3, any sizes


@dataclass(frozen=True, kw_only=True)
class Tagger(Stage):
    """A stage that only looks: a new tagger writes `load`, and `by` where one name has several models."""

    chunk: ClassVar[int] = 8  # pictures in one call of what `load` returned
    readers: ClassVar[int] = 2  # threads that decode pictures while the model is busy with earlier ones

    @property
    def by(self) -> str:
        """Who signs the annotations."""
        return self.name

    def load(self, workspace: Workspace) -> Look:
        """Load the weights, once per worker; what comes back says one list of annotations a picture."""
        raise NotImplementedError

    def start(self, workspace: Workspace) -> Work:
        return partial(tag, self, self.load(workspace), workspace)


def tag(tagger: Tagger, look: Look, workspace: Workspace, records: list[Record]) -> list[Record]:
    """The records with the tagger's annotations appended; a picture that cannot be read drops its record.

    Annotations of others stay as they are; older ones of the same tagger make room.
    """
    done: dict[str, Record] = {}
    with ThreadPoolExecutor(tagger.readers, thread_name_prefix=f"{tagger.name}-read") as pool:
        # map submits everything at once: reading runs ahead of the model by up to one batch.
        pictures = pool.map(partial(read, tagger.name, workspace), records)
        for chunk in _chunks(zip(records, pictures, strict=True), tagger.chunk):
            done |= {record.id: replace(record, drop=drop) for record, drop in chunk if isinstance(drop, Drop)}
            seen = [(record, picture) for record, picture in chunk if not isinstance(picture, Drop)]
            said = look([picture for _, picture in seen]) if seen else []
            pairs = zip(seen, said, strict=True)
            done |= {record.id: annotated(record, tagger.by, words) for (record, _), words in pairs}
    return [done[record.id] for record in records]


def annotated(record: Record, by: str, said: list[Annotation]) -> Record:
    """The record with `said` in place of what the same tagger said before."""
    others = tuple(annotation for annotation in record.annotations if annotation.by != by)
    return replace(record, annotations=(*others, *said))


def read(name: str, workspace: Workspace, record: Record) -> np.ndarray | Drop:
    """The record's cropped picture as an H x W x 3 uint8 RGB array, or why there is none."""
    if record.picture is None:
        raise PrepError(f"{record.source} has not been cropped yet.", "Crop first: prep crop")
    try:
        return load_rgb(workspace.path(record.picture.path))
    except FileNotFoundError:
        return Drop(f"tag {name}", "picture missing", record.picture.path)
    except DAMAGE as error:
        return Drop(f"tag {name}", "picture unreadable", f"{record.picture.path}: {error}")


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
