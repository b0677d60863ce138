"""WD14: SmilingWolf's taggers of Danbooru tags, from a local folder with an ONNX model and its list of tags."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.record import Annotation, Kind
from pipeline.stage import Model, opt
from pipeline.workspace import Workspace, file_sha256
from taggers.onnx_session import open_session
from taggers.tagger import Look, Tagger

if TYPE_CHECKING:
    import numpy as np

MODEL, TAGS = "model.onnx", "selected_tags.csv"
GET = (
    f"Download {MODEL} and {TAGS} of one model, for instance SmilingWolf/wd-vit-tagger-v3 or "
    "SmilingWolf/wd-v1-4-moat-tagger-v2 on Hugging Face, into a folder of the model's name, "
    "then: prep tag wd14 --model FOLDER"
)
# The number in the csv's category column, which is Danbooru's own, to kind and category.
CATEGORIES: dict[int, tuple[Kind, str]] = {
    0: ("tag", "general"),
    1: ("tag", "artist"),
    3: ("tag", "copyright"),
    4: ("tag", "character"),
    5: ("tag", "meta"),
    9: ("rating", "rating"),
}


@dataclass(frozen=True, slots=True)
class Tag:
    """What one output of the model stands for."""

    text: str  # as the model's list spells it, underscores and all; merge spells it
    kind: Kind
    category: str


@dataclass(frozen=True, slots=True)
class Net:
    """A loaded model and what its file says about itself."""

    session: Any
    input: str
    output: str
    side: int  # pixels
    batch: int  # pictures it takes at once; 0: any number


@dataclass(frozen=True, kw_only=True)
class Wd14(Tagger):
    """Danbooru tags, characters and a rating, from SmilingWolf's WD14 models (v1.4 and v3) in ONNX form.

    Every score from `floor` up is kept, and all ratings; merge applies the thresholds. Scores are
    rounded to 4 decimals: what lies below differs between machines.
    """

    name: ClassVar[str] = "wd14"
    batch_size: ClassVar[int] = 32
    threads: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ("pillow",)

    model: str = opt(
        "",
        f"Folder with {MODEL} and {TAGS} of a WD14 model, such as SmilingWolf/wd-vit-tagger-v3, "
        "wd-swinv2-tagger-v3, wd-eva02-large-tagger-v3 or wd-v1-4-moat-tagger-v2 on Hugging Face; "
        "a relative path starts at the workspace.",
        key=False,
        metavar="FOLDER",
    )
    floor: float = opt(0.05, "Lowest score that is recorded, 0 to 1; thresholds above it are merge's.", low=0, high=1)
    device: Literal["auto", "cpu", "cuda"] = opt("auto", "Where the model runs; auto takes a GPU if any.", key=False)

    @property
    def by(self) -> str:
        return f"{self.name}:{Path(self.model).name}"

    def models(self, workspace: Workspace) -> tuple[Model, ...]:
        folder = find_folder(self.model, workspace)
        return tuple(Model(f"{self.by}/{name}", file_sha256(folder / name)) for name in (MODEL, TAGS))

    def load(self, workspace: Workspace) -> Look:
        folder = find_folder(self.model, workspace)
        tags = read_tags(folder / TAGS)
        net = open_net(folder / MODEL, len(tags), self.device)
        return partial(look, net, tags, self)


def find_folder(model: str, workspace: Workspace) -> Path:
    """The model's folder, relative paths from the workspace; PrepError unless both files are in it."""
    if not model:
        raise PrepError("wd14 needs a model folder, and none is given.", GET)
    folder = workspace.source(str(Path(model).expanduser()))
    if not folder.is_dir():
        raise PrepError(f"wd14's model folder {folder} does not exist.", GET)
    missing = [name for name in (MODEL, TAGS) if not (folder / name).is_file()]
    if missing:
        raise PrepError(f"wd14's model folder {folder} lacks {' and '.join(missing)}.", GET)
    return folder


def read_tags(path: Path) -> list[Tag]:
    """selected_tags.csv, row by row: row i names output i.

    Copies with float numbers ('9.0'), CRLF, a BOM or more columns are read too. PrepError names the
    row that cannot be.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"name", "category"} <= set(reader.fieldnames or ()):
                raise PrepError(f"{path} has no columns 'name' and 'category'.", GET)
            tags = [_tag(row, f"{path}, line {reader.line_num}") for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise PrepError(f"{path} is not a list of tags: {error}.", GET) from None
    if not tags:
        raise PrepError(f"{path} lists no tags.", GET)
    return tags


def _tag(row: dict[str, str], where: str) -> Tag:
    try:
        kind, category = CATEGORIES[int(float(row["category"]))]
    except (TypeError, ValueError, OverflowError, KeyError):
        known = ", ".join(map(str, CATEGORIES))
        raise PrepError(f"{where}: category {row['category']!r} is none of {known}.", GET) from None
    if not row["name"]:
        raise PrepError(f"{where}: the tag has no name.", GET)
    return Tag(row["name"], kind, category)


def open_net(path: Path, tags: int, device: str) -> Net:
    """Load the model; PrepError when it is no ONNX file, or not one that turns pictures into `tags` scores."""
    session = open_session(path, device, GET)
    (source, *others), outputs = session.get_inputs(), session.get_outputs()
    shape = source.shape
    pictures = len(shape) == 4 and shape[3] == 3 and type(shape[1]) is int and shape[1] == shape[2] > 0
    if others or not pictures or source.type != "tensor(float)":
        raise PrepError(
            f"{path} takes {source.type} of shape {shape}; WD14 models take floats of batch x side x side x 3.", GET
        )
    # Copies with embeddings have two outputs; the scores are those with one number a tag.
    fits = [o for o in outputs if len(o.shape) == 2 and (o.shape[1] == tags or not isinstance(o.shape[1], int))]
    if not fits:
        found = " and ".join(str(o.shape[-1]) for o in outputs if o.shape)
        raise PrepError(f"{path} has {found} outputs, but {TAGS} beside it lists {tags} tags: they do not match.", GET)
    batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else 0
    return Net(session, source.name, fits[0].name, shape[1], batch)


def prepare(picture: np.ndarray, side: int) -> np.ndarray:
    """An H x W x 3 uint8 RGB picture as the model wants it: side x side x 3 float32, BGR, 0 to 255.

    Padded to a square with white, the picture in the middle, then resized bicubically whether it is
    larger or smaller, as in the author's own space (SmilingWolf/wd-tagger, app.py).
    """
    import numpy as np
    from PIL import Image

    height, width = picture.shape[:2]
    longest = max(height, width)
    top, left = (longest - height) // 2, (longest - width) // 2
    square = np.full((longest, longest, 3), 255, np.uint8)
    square[top : top + height, left : left + width] = picture
    if longest != side:
        square = np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC))
    return np.ascontiguousarray(square[:, :, ::-1], dtype=np.float32)


def look(net: Net, tags: list[Tag], tagger: Wd14, pictures: list[np.ndarray]) -> list[list[Annotation]]:
    """What the model says about each picture, in the order of its list of tags."""
    import numpy as np

    ready = np.stack([prepare(picture, net.side) for picture in pictures])
    scores = np.concatenate([_infer(net, batch) for batch in _batches(ready, net.batch)])[: len(pictures)]
    check_scores(scores, len(tags), tagger.by)
    return [_annotations(row.tolist(), tags, tagger) for row in scores]


def check_scores(scores: np.ndarray, tags: int, by: str) -> None:
    """PrepError unless `scores` are probabilities, one a tag."""
    import numpy as np

    if scores.ndim != 2 or scores.shape[1] != tags:
        found = scores.shape[-1] if scores.ndim else 0
        raise PrepError(f"{by} gives {found} scores a picture, but {TAGS} lists {tags} tags: they do not match.", GET)
    if not np.isfinite(scores).all():
        raise PrepError(f"{by} gives scores that are not numbers (nan).", f"Its {MODEL} is damaged. {GET}")
    low, high = float(scores.min()), float(scores.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise PrepError(f"{by} gives scores from {low:.3g} to {high:.3g}, which are no probabilities.", GET)


def _annotations(scores: list[float], tags: list[Tag], tagger: Wd14) -> list[Annotation]:
    rounded = [round(min(max(score, 0.0), 1.0), 4) for score in scores]
    return [
        Annotation(tag.text, tag.kind, tag.category, score, tagger.by)
        for tag, score in zip(tags, rounded, strict=True)
        if tag.kind == "rating" or score >= tagger.floor
    ]


def _batches(ready: np.ndarray, limit: int) -> Iterator[np.ndarray]:
    """Pieces the model takes: all at once, or exactly `limit` pictures each, the last one filled up with zeros."""
    import numpy as np

    limit = limit or len(ready)
    for start in range(0, math.ceil(len(ready) / limit) * limit, limit):
        piece = ready[start : start + limit]
        yield np.pad(piece, ((0, limit - len(piece)), (0, 0), (0, 0), (0, 0)))


def _infer(net: Net, batch: np.ndarray) -> Any:
    return net.session.run([net.output], {net.input: batch})[0]
