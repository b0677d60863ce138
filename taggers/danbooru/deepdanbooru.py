"""DeepDanbooru: Danbooru tags from AUTOMATIC1111's PyTorch file or a KichangKim project exported to ONNX."""

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
CATEGORIES = "categories.json"  # not every project has it
SIDE = 512  # pixels, of the released model
RATING_PREFIX = "rating:"  # what its ratings begin with in the list of tags
CPU_BATCH = 4  # images at once: an image's activations take 200 MB
GET = (
    f"Get it: prep models pull deepdanbooru (644 MB). Or copy {WEIGHTS}, or a project's {PROJECT}, {TAGS} and {MODEL}, "
    "into a folder, then: prep tag deepdanbooru --model FOLDER"
)


@dataclass(frozen=True, kw_only=True)
class DeepDanbooru(ScoringTagger):
    """Danbooru tags and a rating, as in AUTOMATIC1111's web UI, or from a KichangKim project in ONNX form.

    Every score from `floor` up is kept, and all ratings; merge applies the thresholds.
    """

    name: ClassVar[str] = "deepdanbooru"
    libraries: ClassVar[tuple[str, ...]] = ("pillow", "opencv-python-headless", "torch")

    model: str = option(
        "",
        f"Model's name, deepdanbooru, or a folder with {WEIGHTS}, or with {PROJECT}, {TAGS} and {MODEL}; a relative "
        "path starts at the workspace.",
        cache_key=False,
        metavar="NAME|FOLDER",
    )

    def models(self, workspace: Workspace) -> tuple[Model, ...]:
        form, found = find_deepdanbooru(self.model, workspace)
        extra = (CATEGORIES,) if form is PROJECT_FORMAT and (found.folder / CATEGORIES).is_file() else ()
        return (*model_hashes(found, form.files + extra), self.preparation(form.preprocess))

    def load(self, workspace: Workspace) -> PredictFn:
        form, found = find_deepdanbooru(self.model, workspace)
        return form.load(self, found.folder)


@dataclass(frozen=True, slots=True)
class DeepDanbooruFormat:
    """A form in which DeepDanbooru comes."""

    files: tuple[str, ...]
    load: Callable[[DeepDanbooru, Path], PredictFn]
    preprocess: str  # recorded: a change of it makes tags stale


def find_deepdanbooru(model: str, workspace: Workspace) -> tuple[DeepDanbooruFormat, LocalModel]:
    """The model's form and where it is; PrepError unless its files are there."""
    if not model:
        raise PrepError("deepdanbooru needs a model, and none is given.", GET)
    faults = []
    for form in (TORCH_FORMAT, PROJECT_FORMAT):
        try:
            return form, find_model(model, workspace, form.files)
        except PrepError as error:
            faults.append(error)
    is_project = (workspace.source(model) / PROJECT).is_file()
    fault = faults[is_project]
    raise PrepError(fault.wrong, fault.hint if "prep models" in fault.hint else GET) from None


def load_torch(tagger: DeepDanbooru, folder: Path) -> PredictFn:
    """AUTOMATIC1111's file: tensors by name, and the list of tags among them."""

    tensors, tags = read_weights(folder / WEIGHTS)
    listing = TagList([_tag(tag, "general") for tag in tags], WEIGHTS, WEIGHTS, tagger.signature, GET)
    device = torch_device(tagger.device)
    network = deepdanbooru_net.build(tensors).to(device)
    chunk = CPU_BATCH if device.type == "cpu" else GPU_BATCH
    infer = partial(
        _infer,
        partial(_scores, network, device, listing),
        AdaptiveBatcher(chunk, tagger.signature),
        listing,
        tagger.min_score,
    )
    return PreparedPredictor(partial(letterbox, side=SIDE), infer, chunk)


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The 357 tensors of the network and its tags, checked; nothing in the file is executed.

    PrepError for anything else: a pickle of other things, half a download, another model's weights.
    """
    import pickle

    import torch

    broken = f"{path} is not a whole PyTorch file ({path.stat().st_size:,} bytes)."
    try:
        plain = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        with path.open("rb") as file:
            is_pickle = file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
        unsafe = f"{path} holds more than tensors and names: it is not read, since it may run code."
        raise PrepError(unsafe if is_pickle else broken, GET) from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError, OSError):
        raise PrepError(broken, GET) from None
    tags = plain.get("tags") if isinstance(plain, dict) else None
    if not isinstance(tags, list) or not tags or not all(isinstance(tag, str) and tag for tag in tags):
        raise PrepError(f"{path} has no list of tags: it is another kind of model.", GET)
    tensors = {name: tensor for name, tensor in plain.items() if name != "tags"}
    _check_shapes(path, tensors, len(tags))
    return tensors, tags


def _check_shapes(path: Path, tensors: dict[str, Any], tags: int) -> None:
    import torch

    other = [name for name, tensor in tensors.items() if not isinstance(tensor, torch.Tensor)]
    found = {name: tensor.shape for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
    try:
        wanted = deepdanbooru_net.shapes(found, tags)
    except (KeyError, IndexError) as error:
        raise PrepError(f"{path} has no weights {error}: it is another kind of model.", GET) from None
    wrong = [*other, *(wanted.keys() - found.keys()), *(found.keys() - wanted.keys())]
    if wrong:
        raise PrepError(f"{path} has other weights than resnet_custom_v3 ({min(map(str, wrong))}).", GET)
    for name, shape in wanted.items():
        if tuple(found[name]) != shape:
            have = " x ".join(map(str, found[name]))
            raise PrepError(f"{path}: {name} is {have}, not {' x '.join(map(str, shape))}.", GET)


def load_project(tagger: DeepDanbooru, folder: Path) -> PredictFn:
    """A KichangKim project folder whose model was exported to ONNX: N x side x side x 3, RGB from 0 to 1."""
    side = read_side(folder / PROJECT)
    tags = read_tags(folder)
    listing = TagList(tags, TAGS, MODEL, tagger.signature, GET)
    net = load_tag_model(folder / MODEL, listing, InputContract("NHWC", side), tagger.device)
    if net.side != side:
        raise PrepError(f"{folder / MODEL} takes {net.side} pixels, but {PROJECT} beside it says {side}.", GET)
    return tag_predictor(net, listing, partial(letterbox_area, side=side), tagger.min_score)


def read_side(path: Path) -> int:
    """The side of the square images that a project is for, in pixels."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8-sig"))
        width, height = plain["image_width"], plain["image_height"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PrepError(f"{path} is no project of DeepDanbooru: it has no image_width and image_height.", GET) from None
    if type(width) is not int or width != height or width < 1:
        raise PrepError(f"{path} is for images of {width} x {height}; only squares are known.", GET)
    return width


def read_tags(folder: Path) -> list[ModelTag]:
    """tags.txt, one a line, in the categories of categories.json where there is one."""
    path = folder / TAGS
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        starts = [("general", 0)]
        if (folder / CATEGORIES).is_file():
            path = folder / CATEGORIES
            plain = json.loads(path.read_text(encoding="utf-8-sig"))
            starts = [(str(one["name"]).lower(), int(one["start_index"])) for one in plain]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PrepError(f"{path} is not a list of DeepDanbooru's: {error}.", GET) from None
    texts = [line.rstrip("\r") for line in lines]
    texts = texts[:-1] if texts[-1] == "" else texts
    if not texts or not all(texts):
        raise PrepError(f"{folder / TAGS} lists {'an empty tag' if texts else 'no tags'}.", GET)
    starts.sort(key=lambda one: one[1])
    return [
        _tag(text, next((name for name, start in reversed(starts) if start <= n), "general"))
        for n, text in enumerate(texts)
    ]


def _tag(text: str, category: str) -> ModelTag:
    """A tag of the list; its ratings stand among the others and are told by how they begin."""
    if text.startswith(RATING_PREFIX) and text != RATING_PREFIX:
        return ModelTag(text.removeprefix(RATING_PREFIX), "rating", "rating")
    return ModelTag(text, "tag", category)


def _infer(
    scores: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]],
    pieces: AdaptiveBatcher,
    listing: TagList,
    floor: float,
    arrays: list[np.ndarray],
) -> list[list[Annotation]]:
    return [annotate(row, listing, floor) for row in pieces.run(scores, arrays)]


def _scores(network: Any, device: torch.device, listing: TagList, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    import numpy as np
    import torch

    with torch.inference_mode():
        scores = network(torch.from_numpy(np.stack(arrays)).to(device)).cpu().numpy()
    check_scores(scores, len(arrays), listing)
    return list(scores)


TORCH_FORMAT = DeepDanbooruFormat(
    (WEIGHTS,), load_torch, "edge-replicated letterbox, Lanczos, RGB from 0 to 1, channels last"
)
PROJECT_FORMAT = DeepDanbooruFormat(
    (MODEL, TAGS, PROJECT), load_project, "edge-replicated letterbox, area, RGB from 0 to 1, channels last"
)
