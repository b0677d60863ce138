"""The base of all taggers: reads cropped images ahead of the model, and adds its annotations to their records."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pipeline.engines.prefetching import PrefetchingWork
from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.imaging.image_file import UnreadableImage, decoding, load_rgb
from pipeline.models.catalog import short_name
from pipeline.models.known_weights import model_name
from pipeline.record import Annotation, Drop, Record
from pipeline.stage import Device, Stage, Work, option
from pipeline.workspace import Workspace
from taggers.device import cores

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
PredictFn = Callable[["list[np.ndarray]"], list[list[Annotation]]]  # uint8 RGB images, H x W x 3, of any sizes
MAX_DECODE_THREADS = 16


@dataclass(frozen=True, slots=True)
class PreparedPredictor:
    """A predict function in two steps, so that threads prepare images while the model is busy with earlier ones.

    Both steps depend on their arguments alone; several threads call `prepare` at once.
    """

    prepare: Callable[[np.ndarray], Any]  # one image to the model's input
    infer: Callable[[list[Any]], list[list[Annotation]]]
    batch_size: int = 0  # images in one call of `infer`; 0: the tagger's inference_batch_size

    def __call__(self, images: list[np.ndarray]) -> list[list[Annotation]]:
        return self.infer([self.prepare(image) for image in images])


@dataclass(frozen=True, kw_only=True)
class Tagger(Stage):
    """A stage that adds annotations to records. A tagger implements `load`; see taggers/README.md."""

    inference_batch_size: ClassVar[int] = 8  # images in one call of what `load` returns
    decode_threads: ClassVar[int] = 0  # threads that decode images while the model is busy; 0: one per core

    instance_name: str = ""  # the name of a second instance with other options, such as blip-nucleus

    @property
    def label(self) -> str:
        return self.instance_name or self.name

    @property
    def signature(self) -> str:
        """The `tagger` of its annotations: its name, with its model's name where it has one."""
        return self.label

    def load(self, workspace: Workspace) -> PredictFn:
        """Load the model, once per worker; returns a function from images to one list of annotations per image.

        A PreparedPredictor lets the preparation run ahead of the model, across batches too.
        """
        raise NotImplementedError

    def start(self, workspace: Workspace) -> Work:
        tagger = self.identified(workspace)
        return tagging_work(tagger, tagger.load(workspace), workspace)

    def identified(self, workspace: Workspace) -> Self:
        """The tagger as its annotations name it, which depends on its model's files."""
        return self


@dataclass(frozen=True, kw_only=True)
class ModelTagger(Tagger):
    """A tagger that uses a published model."""

    records_per_batch: ClassVar[int] = 32
    threads: ClassVar[bool] = False

    names_content: ClassVar[tuple[str, ...]] = ("model", "pretrained", "labels")

    model: str = option("", "Model.", cache_key=False, metavar="MODEL")
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "Device that the model runs on; auto: the GPU if there is one.", cache_key=False
    )

    model_name: str = ""  # what its files say which model it is; empty before they are asked

    @property
    def signature(self) -> str:
        return f"{self.label}:{self.model_name or short_name(self.model)}"

    def identified(self, workspace: Workspace) -> Self:
        """The tagger with the name of its repository, or of the known model with the same weights."""
        return replace(self, model_name=model_name(self.models(workspace)))

    def runs_on(self) -> Device:
        return self.device

    def preparation(self, description: str) -> Model:
        """How images are prepared, for the manifest: a change of it makes the annotations stale."""
        return Model(f"{self.name} preprocess", "", description)


@dataclass(frozen=True, kw_only=True)
class ScoringTagger(ModelTagger):
    """A tagger that gives each tag of a list a score."""

    min_score: float = option(
        0.05,
        "Lowest score that is recorded, 0 to 1. Captions have higher thresholds: prep merge --threshold.",
        low=0,
        high=1,
    )


def tagging_work(tagger: Tagger, predict: PredictFn, workspace: Workspace) -> PrefetchingWork:
    """The tagger's work: threads read and prepare images ahead of the model, which takes them in batches."""
    predictor = predict if isinstance(predict, PreparedPredictor) else PreparedPredictor(_unchanged, predict)
    load = partial(_load, tagger.label, predictor.prepare, workspace)
    size = predictor.batch_size or tagger.inference_batch_size
    infer = partial(_infer, tagger.signature, predictor.infer, size)
    return PrefetchingWork(load, infer, tagger.decode_threads or min(cores(), MAX_DECODE_THREADS))


def tag_records(tagger: Tagger, predict: PredictFn, workspace: Workspace, records: list[Record]) -> list[Record]:
    """The records with the tagger's annotations; a record is dropped when its image cannot be read.

    Annotations of other taggers stay; earlier ones with the same signature are replaced.
    """
    return tagging_work(tagger, predict, workspace)(records)


def with_annotations(record: Record, signature: str, annotations: list[Annotation]) -> Record:
    """The record with these annotations in place of earlier ones with the same signature."""
    others = tuple(annotation for annotation in record.annotations if annotation.tagger != signature)
    return replace(record, annotations=(*others, *annotations))


def read_crop(name: str, workspace: Workspace, record: Record) -> np.ndarray | Drop:
    """The record's cropped image as an H x W x 3 uint8 RGB array, or why it cannot be read."""
    if record.image is None:
        raise PrepError(f"{record.source} is not cropped yet.", "Crop it first: prep crop")
    path = workspace.path(record.image.path)
    if not path.is_file():
        return Drop(f"tag {name}", "image missing", record.image.path)
    try:
        with decoding():
            return load_rgb(path)
    except UnreadableImage as error:
        return Drop(f"tag {name}", "image unreadable", f"{record.image.path}: {error}")


def _load(name: str, prepare: Callable[[np.ndarray], Any], workspace: Workspace, record: Record) -> Any:
    image = read_crop(name, workspace, record)
    return image if isinstance(image, Drop) else prepare(image)


def _infer(
    signature: str,
    infer: Callable[[list[Any]], list[list[Annotation]]],
    batch_size: int,
    records: list[Record],
    inputs: Iterable[Any],
) -> list[Record]:
    """The records with the annotations of their inputs; an input can be a Drop."""
    done: dict[str, Record] = {}
    for batch in _batches(zip(records, inputs, strict=True), batch_size):
        done |= {record.id: replace(record, drop=drop) for record, drop in batch if isinstance(drop, Drop)}
        readable = [(record, prepared) for record, prepared in batch if not isinstance(prepared, Drop)]
        predicted = infer([prepared for _, prepared in readable]) if readable else []
        for (record, _), found in zip(readable, predicted, strict=True):
            done[record.id] = with_annotations(record, signature, found)
    return [done[record.id] for record in records]


def _unchanged(image: T) -> T:
    return image


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
