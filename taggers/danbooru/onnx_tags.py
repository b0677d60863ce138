"""ONNX models that turn images into one score a tag: opened, checked, and run in the batches they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.adaptive_batches import AdaptiveBatcher
from pipeline.errors import PrepError
from pipeline.record import Annotation
from taggers.danbooru.onnx_session import CUDA, open_session, worker_count
from taggers.danbooru.scores import TagList, annotate, check_scores
from taggers.tagger import PreparedPredictor

if TYPE_CHECKING:
    import numpy as np

Layout = Literal["NHWC", "NCHW"]
LAYOUTS: dict[Layout, tuple[int, int, int, str]] = {  # where the channels, height and width stand
    "NHWC": (3, 1, 2, "batch x side x side x 3"),
    "NCHW": (1, 2, 3, "batch x 3 x side x side"),
}
_FLOATS = {"tensor(float)": "float32", "tensor(float16)": "float16"}
GPU_BATCH = 32  # images in one call on a GPU, or what memory allows
IMAGES_PER_WORKER = 4  # images for each lane of a CPU before they wait for one another: what runs on when one is slow


@dataclass(frozen=True, slots=True)
class InputContract:
    """What a form of model expects and gives, as far as its file does not say."""

    layout: Layout
    side: int  # pixels, where the file leaves the size open
    logits: bool = False  # it gives logits, and the sigmoid is ours to take


@dataclass(frozen=True, slots=True)
class OnnxTagModel:
    """A loaded model and what its file says about itself."""

    session: Any
    input: str
    output: str
    dtype: str
    side: int  # pixels
    batch: int  # images in one call; 0: any number
    logits: bool
    workers: Executor  # threads that call it
    max_images: int  # images that are on their way through it


def load_tag_model(path: Path, listing: TagList, contract: InputContract, device: str) -> OnnxTagModel:
    """Load the model; PrepError when it is no ONNX file, or not one that turns images into one score a tag."""
    session = open_session(path, device, listing.hint)
    (source, *others), outputs = session.get_inputs(), session.get_outputs()
    side = _side(list(source.shape), contract) if not others and source.type in _FLOATS else 0
    if side < 1:
        raise PrepError(
            f"{path} takes {source.type} of shape {source.shape}; models of this form take floats of "
            f"{LAYOUTS[contract.layout][3]}.",
            listing.hint,
        )
    # Copies with embeddings have two outputs; the scores are those with one number a tag.
    tags = len(listing.tags)
    scores = [o for o in outputs if len(o.shape) == 2 and (o.shape[1] == tags or not isinstance(o.shape[1], int))]
    if not scores:
        found = " and ".join(str(o.shape[-1]) for o in outputs if o.shape)
        raise PrepError(
            f"{path} has {found} outputs, but {listing.file} beside it lists {tags} tags: they do not match.",
            listing.hint,
        )
    fixed = source.shape[0] if isinstance(source.shape[0], int) and source.shape[0] > 0 else 0
    # On a CPU each call has one image, whose scores then do not depend on its neighbours at all.
    on_gpu = CUDA in session.get_providers()
    batch, threads = fixed or (0 if on_gpu else 1), worker_count(device)
    return OnnxTagModel(
        session,
        source.name,
        scores[0].name,
        _FLOATS[source.type],
        side,
        batch,
        contract.logits,
        ThreadPoolExecutor(threads, thread_name_prefix="lane"),
        GPU_BATCH if on_gpu else threads * IMAGES_PER_WORKER * batch,
    )


def _side(shape: list[Any], contract: InputContract) -> int:
    """The side of the square images that an input of this shape takes; 0 when it takes none."""
    channels, down, across, _ = LAYOUTS[contract.layout]
    if len(shape) != 4 or shape[channels] != 3:
        return 0
    height, width = (shape[n] if isinstance(shape[n], int) else contract.side for n in (down, across))
    return height if height == width else 0


def tag_predictor(
    net: OnnxTagModel, listing: TagList, prepare: Callable[[np.ndarray], np.ndarray], min_score: float
) -> PreparedPredictor:
    """The model's look; `prepare` makes the array it takes, and scores from `floor` up are said."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    pieces = AdaptiveBatcher(net.max_images, listing.signature, faults=(state.RuntimeException, state.Fail, state.EPFail))
    return PreparedPredictor(prepare, partial(predict_tags, net, listing, min_score, pieces), GPU_BATCH)


def predict_tags(
    net: OnnxTagModel, listing: TagList, floor: float, pieces: AdaptiveBatcher, arrays: list[np.ndarray]
) -> list[list[Annotation]]:
    """What the model says about each prepared image, in the order of its list of tags."""
    return [annotate(row, listing, floor) for row in pieces.run(partial(_rows, net, listing), arrays)]


def _rows(net: OnnxTagModel, listing: TagList, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    import numpy as np

    def run(batch: np.ndarray) -> np.ndarray:
        rows: np.ndarray = net.session.run([net.output], {net.input: batch.astype(net.dtype, copy=False)})[0]
        return rows

    runs = [net.workers.submit(run, batch) for batch in _batches(arrays, net.batch or len(arrays))]
    wait(runs, return_when=FIRST_EXCEPTION)
    wait([one for one in runs if not one.cancel()])  # after a fault too: who tries again with less finds memory free
    scores: np.ndarray = np.concatenate(_results(runs)).astype(np.float32, copy=False)[: len(arrays)]
    if net.logits:
        scores = sigmoid(scores, listing)
    check_scores(scores, len(arrays), listing)
    return list(scores)


def _results(runs: list[Future[np.ndarray]]) -> list[np.ndarray]:
    """What all of them gave; raises the fault of the one that had one."""
    for fault in (one.exception() for one in runs if not one.cancelled()):
        if fault:
            raise fault
    return [one.result() for one in runs]


def sigmoid(logits: np.ndarray, listing: TagList) -> np.ndarray:
    """1 / (1 + exp(-x)); PrepError when all lies in 0 to 1, which logits of a list of tags never do."""
    import numpy as np

    if logits.size and logits.min() >= 0 and logits.max() <= 1:
        raise PrepError(
            f"{listing.signature} gives probabilities, and models of this form give logits: it is another kind of model.",
            listing.hint,
        )
    return (0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))).astype(np.float32)


def _batches(arrays: Sequence[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Batches of exactly `size` images, the last one filled up with zeros."""
    import numpy as np

    for start in range(0, len(arrays), size):
        batch = np.stack(arrays[start : start + size]) if size > 1 else arrays[start][np.newaxis]
        yield np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0))) if len(batch) < size else batch
