"""What a tagger is: it looks at cropped images and adds what it saw to their records."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pipeline.engines.ahead import PrefetchingWork
from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.imaging.decode import DECODE_ERRORS
from pipeline.imaging.image_file import load_rgb
from pipeline.models.catalog import short_name
from pipeline.record import Annotation, Drop, Record
from pipeline.stage import Device, Stage, Work, option
from pipeline.workspace import Workspace
from taggers.device import cores

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
PredictFn = Callable[["list[np.ndarray]"], list[list[Annotation]]]  # uint8 RGB, H x W x 3, any sizes
MAX_DECODE_THREADS = 16


@dataclass(frozen=True, slots=True)
class PreparedPredictor:
    """A Look in two halves, so that threads prepare images while the model is busy with earlier ones.

    Both are functions of their arguments alone; `prepare` is called by several threads at once.
    """

    prepare: Callable[[np.ndarray], Any]  # one image, as the model wants it
    infer: Callable[[list[Any]], list[list[Annotation]]]
    batch_size: int = 0  # images in one call of `infer`; 0: the tagger's own

    def __call__(self, images: list[np.ndarray]) -> list[list[Annotation]]:
        return self.infer([self.prepare(image) for image in images])


@dataclass(frozen=True, kw_only=True)
class Tagger(Stage):
    """A stage that only looks: a new tagger writes `load`, and `by` where one name has several models."""

    inference_batch_size: ClassVar[int] = 8  # images in one call of what `load` returned
    decode_threads: ClassVar[int] = 0  # threads that decode images while the model is busy; 0: one a core

    instance_name: str = ""  # a name of its own, such as blip-nucleus, where a second setting stands beside the first

    @property
    def label(self) -> str:
        return self.instance_name or self.name

    @property
    def signature(self) -> str:
        """Who signs the annotations."""
        return self.label

    def load(self, workspace: Workspace) -> PredictFn:
        """Load the weights, once per worker; what comes back says one list of annotations an image.

        A Split lets its first half run ahead of the model, over the bounds of batches too.
        """
        raise NotImplementedError

    def start(self, workspace: Workspace) -> Work:
        return tagging_work(self, self.load(workspace), workspace)


@dataclass(frozen=True, kw_only=True)
class ModelTagger(Tagger):
    """A tagger that looks through a model of others."""

    records_per_batch: ClassVar[int] = 32
    threads: ClassVar[bool] = False

    model: str = option("", "Model.", cache_key=False, metavar="MODEL")
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "Where the model runs; auto takes a GPU if any.", cache_key=False
    )

    @property
    def signature(self) -> str:
        return f"{self.label}:{short_name(self.model)}"

    def runs_on(self) -> Device:
        return self.device

    def preparation(self, how: str) -> Model:
        """For the manifest, how images are prepared: a change of it makes what was said stale."""
        return Model(f"{self.name} preprocess", "", how)


@dataclass(frozen=True, kw_only=True)
class ScoringTagger(ModelTagger):
    """One that gives each tag of its list a score."""

    min_score: float = option(
        0.05, "Lowest score that is recorded, 0 to 1; thresholds above it are merge's.", low=0, high=1
    )


def tagging_work(tagger: Tagger, predict: PredictFn, workspace: Workspace) -> PrefetchingWork:
    """The tagger's work: images are read and prepared ahead, then looked at in chunks."""
    split = predict if isinstance(predict, PreparedPredictor) else PreparedPredictor(_as_it_is, predict)
    fetch = partial(_fetch, tagger.label, split.prepare, workspace)
    finish = partial(_finish, tagger.signature, split.infer, split.batch_size or tagger.inference_batch_size)
    return PrefetchingWork(fetch, finish, tagger.decode_threads or min(cores(), MAX_DECODE_THREADS))


def tag_records(tagger: Tagger, predict: PredictFn, workspace: Workspace, records: list[Record]) -> list[Record]:
    """The records with the tagger's annotations appended; an image that cannot be read drops its record.

    Annotations of others stay as they are; older ones of the same tagger make room.
    """
    return tagging_work(tagger, predict, workspace)(records)


def with_annotations(record: Record, by: str, said: list[Annotation]) -> Record:
    """The record with `said` in place of what the same tagger said before."""
    others = tuple(annotation for annotation in record.annotations if annotation.tagger != by)
    return replace(record, annotations=(*others, *said))


def read_crop(name: str, workspace: Workspace, record: Record) -> np.ndarray | Drop:
    """The record's cropped image as an H x W x 3 uint8 RGB array, or why there is none."""
    if record.image is None:
        raise PrepError(f"{record.source} has not been cropped yet.", "Crop first: prep crop")
    try:
        return load_rgb(workspace.path(record.image.path))
    except FileNotFoundError:
        return Drop(f"tag {name}", "image missing", record.image.path)
    except DECODE_ERRORS as error:
        return Drop(f"tag {name}", "image unreadable", f"{record.image.path}: {error}")


def _fetch(name: str, prepare: Callable[[np.ndarray], Any], workspace: Workspace, record: Record) -> Any:
    image = read_crop(name, workspace, record)
    return image if isinstance(image, Drop) else prepare(image)


def _finish(
    by: str,
    infer: Callable[[list[Any]], list[list[Annotation]]],
    size: int,
    records: list[Record],
    fetched: Iterable[Any],
) -> list[Record]:
    done: dict[str, Record] = {}
    for chunk in _chunks(zip(records, fetched, strict=True), size):
        done |= {record.id: replace(record, drop=drop) for record, drop in chunk if isinstance(drop, Drop)}
        seen = [(record, image) for record, image in chunk if not isinstance(image, Drop)]
        said = infer([image for _, image in seen]) if seen else []
        done |= {record.id: with_annotations(record, by, words) for (record, _), words in zip(seen, said, strict=True)}
    return [done[record.id] for record in records]


def _as_it_is(image: T) -> T:
    return image


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
