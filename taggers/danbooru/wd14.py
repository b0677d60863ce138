"""WD14: SmilingWolf's taggers of Danbooru tags and those of cl_tagger's form, as ONNX models with a list of tags."""

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
SIDE = 448  # pixels: what all of these models were trained with, should the file leave it open
GET = (
    "Get one, for instance SmilingWolf/wd-vit-tagger-v3: prep models pull wd-vit-tagger-v3. "
    f"Or copy its {MODEL} and {TAGS} into a folder of the model's name, then: prep tag wd14 --model FOLDER"
)


@dataclass(frozen=True, slots=True)
class Wd14Format:
    """A form in which such models come: its files, and how its images are prepared."""

    models: tuple[str, ...]  # the name of the model's file, or what else it may be called
    tags: str
    read: Callable[[Path, str], list[ModelTag]]
    contract: InputContract
    prepare: Callable[[np.ndarray, int], np.ndarray]
    preprocess: str  # recorded: a change of it makes tags stale


@dataclass(frozen=True, kw_only=True)
class Wd14(ScoringTagger):
    """Danbooru tags, characters and a rating, from SmilingWolf's WD14 models (v1.4, v3) or cl_tagger, in ONNX form.

    Every score from `floor` up is kept, and all ratings; merge applies the thresholds. Scores are
    rounded to 4 decimals: what lies below differs between machines.
    """

    name: ClassVar[str] = "wd14"
    libraries: ClassVar[tuple[str, ...]] = ("pillow",)

    model: str = option(
        "",
        "Model's name, such as wd-vit-tagger-v3, its hub id, such as SmilingWolf/wd-v1-4-moat-tagger-v2, or a folder "
        f"with {MODEL} and {TAGS}, or model_optimized.onnx and tag_mapping.json (cl_tagger); a relative path starts "
        "at the workspace.",
        cache_key=False,
        metavar="NAME|FOLDER",
    )

    def models(self, workspace: Workspace) -> tuple[Model, ...]:
        form, file, found = find_wd14(self.model, workspace)
        return (*model_hashes(found, (file, form.tags)), self.preparation(form.preprocess))

    def load(self, workspace: Workspace) -> PredictFn:
        form, file, found = find_wd14(self.model, workspace)
        listing = TagList(form.read(found.folder / form.tags, GET), form.tags, file, self.signature, GET)
        net = load_tag_model(found.folder / file, listing, form.contract, self.device)
        return tag_predictor(net, listing, lambda image: form.prepare(image, net.side), self.min_score)


def find_wd14(model: str, workspace: Workspace) -> tuple[Wd14Format, str, LocalModel]:
    """The model's form, the name of its model file, and where it is; PrepError unless its files are there."""
    if not model:
        raise PrepError("wd14 needs a model folder, and none is given.", GET)
    faults: dict[str, PrepError] = {}
    for form in FORMATS:
        for file in form.models:
            try:
                return form, file, find_model(model, workspace, (file, form.tags))
            except PrepError as error:
                faults[f"{file} {form.tags}"] = error
    # A folder that holds a list of tags lacks only the model: that sentence says more than the first.
    fault = min(faults.values(), key=lambda error: error.wrong.count(" and "))
    raise PrepError(fault.wrong, fault.hint if "prep models" in fault.hint else GET) from None


def prepare_wd14(image: np.ndarray, side: int) -> np.ndarray:
    """An H x W x 3 uint8 RGB image as the model wants it: side x side x 3 float32, BGR, 0 to 255.

    Padded to a square with white, the image in the middle, then resized bicubically whether it is
    larger or smaller, as in the author's own space (SmilingWolf/wd-tagger, app.py).
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
    # A tenth of the time that numpy takes to turn the channels round.
    turned: np.ndarray = cv2.cvtColor(square, cv2.COLOR_RGB2BGR)
    return turned.astype(np.float32)


def prepare_cl_tagger(image: np.ndarray, side: int) -> np.ndarray:
    """The same image for models of cl_tagger's form: 3 x side x side float32, BGR, from -1 to 1."""
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
