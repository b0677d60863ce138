"""DeepDanbooru: Danbooru tags by AUTOMATIC1111's PyTorch file, or by a project of KichangKim's exported to ONNX."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.adaptive_batches import AdaptiveBatcher
from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.models.file_hashes import model_hashes
from pipeline.models.store import LocalModel, find_model
from pipeline.record import Annotation
from pipeline.stage import option
from pipeline.text_files import TextFault, read_text
from pipeline.workspace import Workspace
from taggers.danbooru import deepdanbooru_net
from taggers.danbooru.deepdanbooru_prepare import letterbox, letterbox_area
from taggers.danbooru.onnx_tags import GPU_BATCH, InputContract, load_tag_model, tag_predictor
from taggers.danbooru.scores import ModelTag, TagList, annotate, check_scores
from taggers.device import torch_device
from taggers.tagger import PredictFn, PreparedPredictor, ScoringTagger

if TYPE_CHECKING:
    import numpy as np
    import torch

WEIGHTS = "model-resnet_custom_v3.pt"
PROJECT, TAGS, MODEL = "project.json", "tags.txt", "model.onnx"
CATEGORIES = "categories.json"  # optional
SIDE = 512  # pixels, of the released model
RATING_PREFIX = "rating:"  # of ratings in the list of tags
CPU_BATCH = 4  # images in one call: the activations of each take 200 MB
GET = (
    f"Get it: prep models pull deepdanbooru (644 MB). Or copy {WEIGHTS}, or a project's {PROJECT}, {TAGS} and {MODEL}, "
    "into a folder, then: prep tag deepdanbooru --model FOLDER"
)


@dataclass(frozen=True, kw_only=True)
class DeepDanbooru(ScoringTagger):
    """Danbooru tags and a rating, as in AUTOMATIC1111's web UI, or by a project of KichangKim's in ONNX format.

    Records every score from --min-score up, lower ones that prep merge --mcut needs, and all ratings; prep merge
    applies the thresholds.
    """

    name: ClassVar[str] = "deepdanbooru"
    version: ClassVar[int] = 2  # scores below min_score that MCut needs
    libraries: ClassVar[tuple[str, ...]] = ("pillow", "opencv-python-headless", "torch")

    model: str = option(
        "",
        f"Model: the name deepdanbooru, or a folder with {WEIGHTS}, or with {PROJECT}, {TAGS} and {MODEL}. Relative "
        "paths start at the workspace.",
        cache_key=False,
        metavar="NAME|FOLDER",
    )

    def models(self, workspace: Workspace) -> tuple[Model, ...]:
        format, found = find_deepdanbooru(self.model, workspace)
        extra = (CATEGORIES,) if format is PROJECT_FORMAT and (found.folder / CATEGORIES).is_file() else ()
        return (*model_hashes(found, format.files + extra), self.preparation(format.preprocess))

    def load(self, workspace: Workspace) -> PredictFn:
        format, found = find_deepdanbooru(self.model, workspace)
        return format.load(self, found.folder)


@dataclass(frozen=True, slots=True)
class DeepDanbooruFormat:
    """A format of DeepDanbooru models."""

    files: tuple[str, ...]
    load: Callable[[DeepDanbooru, Path], PredictFn]
    preprocess: str  # recorded: a change of it makes tags stale


def find_deepdanbooru(model: str, workspace: Workspace) -> tuple[DeepDanbooruFormat, LocalModel]:
    """The model's format and where it is; PrepError unless its files exist."""
    if not model:
        raise PrepError("deepdanbooru needs a model: --model is not given.", GET)
    errors = []
    for format in (TORCH_FORMAT, PROJECT_FORMAT):
        try:
            return format, find_model(model, workspace, format.files)
        except PrepError as error:
            errors.append(error)
    is_project = (workspace.source(model) / PROJECT).is_file()
    best = errors[is_project]
    raise PrepError(best.wrong, best.hint if "prep models" in best.hint else GET) from None


def load_torch(tagger: DeepDanbooru, folder: Path) -> PredictFn:
    """AUTOMATIC1111's file, of tensors by name and the list of tags (github.com/AUTOMATIC1111/TorchDeepDanbooru)."""
    tensors, tags = read_weights(folder / WEIGHTS)
    tag_list = TagList([_tag(tag, "general") for tag in tags], WEIGHTS, WEIGHTS, tagger.signature, GET)
    device = torch_device(tagger.device)
    network = deepdanbooru_net.build(tensors).to(device)
    batch_size = CPU_BATCH if device.type == "cpu" else GPU_BATCH
    batcher = AdaptiveBatcher(batch_size, tagger.signature)

    def infer(arrays: list[np.ndarray]) -> list[list[Annotation]]:
        rows = batcher.run(partial(_predict_scores, network, device, tag_list), arrays)
        return [annotate(row, tag_list, tagger.min_score) for row in rows]

    return PreparedPredictor(partial(letterbox, side=SIDE), infer, batch_size)


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The 357 tensors of the network and its tags, checked; no code in the file is executed.

    PrepError for anything else: a pickle of other things, an incomplete download, another model's weights.
    """
    import pickle

    import torch

    damaged = f"{path} is not a complete PyTorch file ({path.stat().st_size:,} bytes)."
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        with path.open("rb") as file:
            is_pickle = file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
        unsafe = f"{path} holds more than tensors and names: it is not loaded, since it could run code."
        raise PrepError(unsafe if is_pickle else damaged, GET) from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError, OSError):
        raise PrepError(damaged, GET) from None
    tags = data.get("tags") if isinstance(data, dict) else None
    if not isinstance(tags, list) or not tags or not all(isinstance(tag, str) and tag for tag in tags):
        raise PrepError(f"{path} has no list of tags: it is another model.", GET)
    tensors = {name: tensor for name, tensor in data.items() if name != "tags"}
    _check_shapes(path, tensors, len(tags))
    return tensors, tags


def _check_shapes(path: Path, tensors: dict[str, Any], tags: int) -> None:
    import torch

    not_tensors = [name for name, tensor in tensors.items() if not isinstance(tensor, torch.Tensor)]
    found = {name: tensor.shape for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
    try:
        expected = deepdanbooru_net.shapes(found, tags)
    except (KeyError, IndexError) as error:
        raise PrepError(f"{path} has no weights {error}: it is another model.", GET) from None
    wrong = [*not_tensors, *(expected.keys() ^ found.keys())]
    if wrong:
        raise PrepError(f"{path} has other weights than resnet_custom_v3 ({min(map(str, wrong))}).", GET)
    for name, shape in expected.items():
        if tuple(found[name]) != shape:
            actual = " x ".join(map(str, found[name]))
            raise PrepError(f"{path}: {name} is {actual}, not {' x '.join(map(str, shape))}.", GET)


def load_project(tagger: DeepDanbooru, folder: Path) -> PredictFn:
    """A project of KichangKim's whose model was exported to ONNX: N x side x side x 3, RGB from 0 to 1."""
    side = read_side(folder / PROJECT)
    tag_list = TagList(read_tags(folder), TAGS, MODEL, tagger.signature, GET)
    model = load_tag_model(folder / MODEL, tag_list, InputContract("NHWC", side), tagger.device)
    if model.side != side:
        raise PrepError(f"{folder / MODEL} takes {model.side} pixels, but its {PROJECT} says {side}.", GET)
    return tag_predictor(model, tag_list, partial(letterbox_area, side=side), tagger.min_score)


def read_side(path: Path) -> int:
    """The side in pixels of the square images that a project takes."""
    try:
        project = json.loads(read_text(path))
        width, height = project["image_width"], project["image_height"]
    except (TextFault, ValueError, KeyError, TypeError, RecursionError):
        raise PrepError(f"{path} is no DeepDanbooru project: it has no image_width and image_height.", GET) from None
    if type(width) is not int or width != height or width < 1:
        raise PrepError(f"{path} is for images of {width} x {height}; prep supports only squares.", GET)
    return width


def read_tags(folder: Path) -> list[ModelTag]:
    """The tags of tags.txt, one per line, in the categories of categories.json if it exists."""
    path = folder / TAGS
    try:
        lines = read_text(path).split("\n")
        starts = [("general", 0)]
        if (folder / CATEGORIES).is_file():
            path = folder / CATEGORIES
            categories = json.loads(read_text(path))
            starts = [(str(entry["name"]).lower(), int(entry["start_index"])) for entry in categories]
    except (TextFault, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PrepError(f"{path} is not a list of tags or categories: {error}.", GET) from None
    texts = [line.rstrip("\r") for line in lines]
    texts = texts[:-1] if texts[-1] == "" else texts
    if not texts or not all(texts):
        raise PrepError(f"{folder / TAGS} lists {'an empty tag' if texts else 'no tags'}.", GET)
    starts.sort(key=lambda start: start[1])
    return [
        _tag(text, next((name for name, start in reversed(starts) if start <= n), "general"))
        for n, text in enumerate(texts)
    ]


def _tag(text: str, category: str) -> ModelTag:
    """A tag of the list; ratings are tags that begin with 'rating:'."""
    if text.startswith(RATING_PREFIX) and text != RATING_PREFIX:
        return ModelTag(text.removeprefix(RATING_PREFIX), "rating", "rating")
    return ModelTag(text, "tag", category)


def _predict_scores(
    network: Any, device: torch.device, tag_list: TagList, arrays: Sequence[np.ndarray]
) -> Sequence[np.ndarray]:
    import numpy as np
    import torch

    with torch.inference_mode():
        scores = network(torch.from_numpy(np.stack(arrays)).to(device)).cpu().numpy()
    check_scores(scores, len(arrays), tag_list)
    return list(scores)


TORCH_FORMAT = DeepDanbooruFormat(
    (WEIGHTS,), load_torch, "letterbox with bicubic edges, Lanczos, RGB from 0 to 1, channels last"
)
PROJECT_FORMAT = DeepDanbooruFormat(
    (MODEL, TAGS, PROJECT), load_project, "edge-replicated letterbox, area, RGB from 0 to 1, channels last"
)
