"""WD14: SmilingWolf's taggers of Danbooru tags, and models in cl_tagger's format, as ONNX files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.models.file_hashes import model_hashes
from pipeline.models.store import LocalModel, find_model
from pipeline.stage import option
from pipeline.workspace import Workspace
from taggers.danbooru.onnx_tags import InputContract, load_tag_model, tag_predictor
from taggers.danbooru.scores import ModelTag, TagList
from taggers.danbooru.wd14_tags import read_csv, read_json
from taggers.tagger import PredictFn, ScoringTagger

if TYPE_CHECKING:
    import numpy as np

MODEL, TAGS = "model.onnx", "selected_tags.csv"
SIDE = 448  # pixels: what all these models were trained with, where the file leaves it open
GET = (
    "Get one, such as SmilingWolf/wd-vit-tagger-v3: prep models pull wd-vit-tagger-v3. "
    f"Or copy its {MODEL} and {TAGS} into a folder with the model's name, then: prep tag wd14 --model FOLDER"
)


@dataclass(frozen=True, slots=True)
class Wd14Format:
    """A format of such models: its files, and how their images are prepared."""

    models: tuple[str, ...]  # the names that the model's file can have
    tags: str
    read: Callable[[Path, str], list[ModelTag]]
    contract: InputContract
    prepare: Callable[[np.ndarray, int], np.ndarray]
    preprocess: str  # recorded: a change of it makes tags stale


@dataclass(frozen=True, slots=True)
class Wd14Files:
    """Where a model is, and in which format."""

    format: Wd14Format
    model: str  # name of the model's file
    found: LocalModel


@dataclass(frozen=True, kw_only=True)
class Wd14(ScoringTagger):
    """Danbooru tags, characters and a rating, by SmilingWolf's WD14 models (v1.4, v3) or cl_tagger, in ONNX format.

    Records every score from --min-score up, lower ones that prep merge --mcut needs, and all ratings; prep merge
    applies the thresholds. Scores are rounded to 4 decimals, as the digits after those differ between machines.
    """

    name: ClassVar[str] = "wd14"
    version: ClassVar[int] = 2  # scores below min_score that MCut needs
    libraries: ClassVar[tuple[str, ...]] = ("pillow",)

    model: str = option(
        "",
        "Model: a name such as wd-vit-tagger-v3, a hub id such as SmilingWolf/wd-v1-4-moat-tagger-v2, or a folder "
        f"with {MODEL} and {TAGS}, or with model_optimized.onnx and tag_mapping.json (cl_tagger). Relative paths "
        "start at the workspace.",
        cache_key=False,
        metavar="NAME|FOLDER",
    )

    def models(self, workspace: Workspace) -> tuple[Model, ...]:
        files = find_wd14(self.model, workspace)
        hashes = model_hashes(files.found, (files.model, files.format.tags))
        return (*hashes, self.preparation(files.format.preprocess))

    def load(self, workspace: Workspace) -> PredictFn:
        files = find_wd14(self.model, workspace)
        folder, format = files.found.folder, files.format
        tag_list = TagList(format.read(folder / format.tags, GET), format.tags, files.model, self.signature, GET)
        model = load_tag_model(folder / files.model, tag_list, format.contract, self.device)
        return tag_predictor(model, tag_list, lambda image: format.prepare(image, model.side), self.min_score)


def find_wd14(model: str, workspace: Workspace) -> Wd14Files:
    """The model's files and format; PrepError unless they exist."""
    if not model:
        raise PrepError("wd14 needs a model: --model is not given.", GET)
    errors: list[PrepError] = []
    for format in FORMATS:
        for file in format.models:
            try:
                return Wd14Files(format, file, find_model(model, workspace, (file, format.tags)))
            except PrepError as error:
                errors.append(error)
    # Where a folder has a list of tags, the error that only the model is missing says more than the first one.
    best = min(errors, key=lambda error: error.wrong.count(" and "))
    raise PrepError(best.wrong, best.hint if "prep models" in best.hint else GET) from None


def prepare_wd14(image: np.ndarray, side: int) -> np.ndarray:
    """An H x W x 3 uint8 RGB image as the model's input: side x side x 3 float32, BGR, 0 to 255.

    Padded to a square with white, the image centered, then resized bicubically up or down, as in the author's
    space (huggingface.co/spaces/SmilingWolf/wd-tagger, app.py, prepare_image).
    """
    import cv2
    import numpy as np
    from PIL import Image

    height, width = image.shape[:2]
    longest = max(height, width)
    square = image
    if height != width:
        top, left = (longest - height) // 2, (longest - width) // 2
        square = np.full((longest, longest, 3), 255, np.uint8)
        square[top : top + height, left : left + width] = image
    if longest != side:
        square = np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC))
    bgr: np.ndarray = cv2.cvtColor(square, cv2.COLOR_RGB2BGR)  # takes a tenth of the time of numpy's [..., ::-1]
    return bgr.astype(np.float32)


def prepare_cl_tagger(image: np.ndarray, side: int) -> np.ndarray:
    """The same image for models in cl_tagger's format: 3 x side x side float32, BGR, from -1 to 1."""
    import numpy as np

    array = prepare_wd14(image, side).transpose(2, 0, 1)
    return np.ascontiguousarray(array) / np.float32(127.5) - np.float32(1)


FORMATS = (
    Wd14Format(
        (MODEL,),
        TAGS,
        read_csv,
        InputContract("NHWC", SIDE),
        prepare_wd14,
        "white square, bicubic, BGR from 0 to 255, channels last",
    ),
    Wd14Format(
        ("model_optimized.onnx", MODEL),
        "tag_mapping.json",
        read_json,
        InputContract("NCHW", SIDE, logits=True),
        prepare_cl_tagger,
        "white square, bicubic, BGR from -1 to 1, channels first, sigmoid",
    ),
)
