"""ONNX models with one score per tag: loaded, checked, and run in the batches that they take."""

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
LAYOUTS: dict[Layout, tuple[int, int, int, str]] = {  # the axes of channels, height and width
    "NHWC": (3, 1, 2, "batch x side x side x 3"),
    "NCHW": (1, 2, 3, "batch x 3 x side x side"),
}
_FLOATS = {"tensor(float)": "float32", "tensor(float16)": "float16"}
GPU_BATCH = 32  # images in one call on a GPU, or what memory allows
IMAGES_PER_WORKER = 4  # images per CPU worker in one call, so that workers rarely wait for the slowest one


@dataclass(frozen=True, slots=True)
class InputContract:
    """What a format of models expects and returns, as far as their files do not say."""

    layout: Layout
    side: int  # pixels, where the file leaves the size open
    logits: bool = False  # the outputs are logits, not probabilities


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
    workers: Executor  # threads that call the session
    max_images: int  # images in all calls that run at once


def load_tag_model(path: Path, tag_list: TagList, contract: InputContract, device: str) -> OnnxTagModel:
    """Load the model; PrepError when it is no ONNX file, or takes no images or gives no score per tag."""
    session = open_session(path, device, tag_list.hint)
    source = session.get_inputs()[0]
    side = _side(list(source.shape), contract) if len(session.get_inputs()) == 1 and source.type in _FLOATS else 0
    if side < 1:
        raise PrepError(
            f"{path} takes {source.type} of shape {source.shape}; models of this format take floats of "
            f"{LAYOUTS[contract.layout][3]}.",
            tag_list.hint,
        )
    fixed = source.shape[0] if isinstance(source.shape[0], int) and source.shape[0] > 0 else 0
    # On a CPU each call has one image, so its scores do not depend on other images at all.
    on_gpu = CUDA in session.get_providers()
    batch, threads = fixed or (0 if on_gpu else 1), worker_count(device)
    return OnnxTagModel(
        session,
        input=source.name,
        output=_score_output(path, session.get_outputs(), tag_list),
        dtype=_FLOATS[source.type],
        side=side,
        batch=batch,
        logits=contract.logits,
        workers=ThreadPoolExecutor(threads, thread_name_prefix="onnx"),
        max_images=GPU_BATCH if on_gpu else threads * IMAGES_PER_WORKER * batch,
    )


def _score_output(path: Path, outputs: Sequence[Any], tag_list: TagList) -> str:
    """The name of the output with one number per tag; models with embeddings have two outputs."""
    tags = len(tag_list.tags)
    scores = [o for o in outputs if len(o.shape) == 2 and (o.shape[1] == tags or not isinstance(o.shape[1], int))]
    if not scores:
        sizes = " and ".join(str(o.shape[-1]) for o in outputs if o.shape)
        raise PrepError(
            f"{path} has {sizes} outputs, but its {tag_list.file} lists {tags} tags: they do not match.", tag_list.hint
        )
    return str(scores[0].name)


def _side(shape: list[Any], contract: InputContract) -> int:
    """The side of the square images that an input of this shape takes; 0 when it takes none."""
    channels, down, across, _ = LAYOUTS[contract.layout]
    if len(shape) != 4 or shape[channels] != 3:
        return 0
    height, width = (shape[n] if isinstance(shape[n], int) else contract.side for n in (down, across))
    return height if height == width else 0


def tag_predictor(
    model: OnnxTagModel, tag_list: TagList, prepare: Callable[[np.ndarray], np.ndarray], min_score: float
) -> PreparedPredictor:
    """The model's predictor; `prepare` makes its input array, and scores from `min_score` up are recorded."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    faults = (state.RuntimeException, state.Fail, state.EPFail)
    batcher = AdaptiveBatcher(model.max_images, tag_list.signature, faults=faults)

    def infer(arrays: list[np.ndarray]) -> list[list[Annotation]]:
        rows = batcher.run(partial(predict_scores, model, tag_list), arrays)
        return [annotate(row, tag_list, min_score) for row in rows]

    return PreparedPredictor(prepare, infer, GPU_BATCH)


def predict_scores(model: OnnxTagModel, tag_list: TagList, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """One row of probabilities per image, in the order of the list of tags."""
    import numpy as np

    def run(batch: np.ndarray) -> np.ndarray:
        rows: np.ndarray = model.session.run([model.output], {model.input: batch.astype(model.dtype, copy=False)})[0]
        return rows

    runs = [model.workers.submit(run, batch) for batch in _batches(arrays, model.batch or len(arrays))]
    wait(runs, return_when=FIRST_EXCEPTION)
    wait([future for future in runs if not future.cancel()])  # after a fault too, so that a retry finds free memory
    scores: np.ndarray = np.concatenate(_results(runs)).astype(np.float32, copy=False)[: len(arrays)]
    if model.logits:
        scores = sigmoid(scores, tag_list)
    check_scores(scores, len(arrays), tag_list)
    return list(scores)


def _results(runs: list[Future[np.ndarray]]) -> list[np.ndarray]:
    """The results of all runs; raises the first exception of one that was not cancelled."""
    for error in (future.exception() for future in runs if not future.cancelled()):
        if error:
            raise error
    return [future.result() for future in runs]


def sigmoid(logits: np.ndarray, tag_list: TagList) -> np.ndarray:
    """1 / (1 + exp(-x)); PrepError when all values are from 0 to 1, as logits of many tags never are."""
    import numpy as np

    if logits.size and logits.min() >= 0 and logits.max() <= 1:
        raise PrepError(
            f"{tag_list.signature} gives probabilities, but models of this format give logits: it is another model.",
            tag_list.hint,
        )
    return (0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))).astype(np.float32)


def _batches(arrays: Sequence[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Batches of exactly `size` images, the last one padded with zeros."""
    import numpy as np

    for start in range(0, len(arrays), size):
        batch = np.stack(arrays[start : start + size]) if size > 1 else arrays[start][np.newaxis]
        yield np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0))) if len(batch) < size else batch
