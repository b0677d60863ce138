"""Basic: colors, lightness, sharpness, backgrounds and faces by classical vision, without a model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pipeline.imaging.faces import Box, find_faces
from pipeline.record import Annotation, Kind
from pipeline.stage import option
from pipeline.workspace import Workspace
from taggers.tagger import PredictFn, Tagger

if TYPE_CHECKING:
    import numpy as np

SIDE = 512  # longest side in pixels at which images are measured, so that sharpness is comparable

# CIE Lab (D65) coordinates of color names; a color has the name of the nearest, with lightness at half weight, so
# that colors in the shade keep their names. A name can have several rows.
COLORS: tuple[tuple[str, float, float, float], ...] = (
    ("black", 0, 0, 0),
    ("black", 12, 0, 0),
    ("grey", 35, 0, 0),
    ("grey", 55, 0, 0),
    ("grey", 75, 0, 0),
    ("white", 100, 0, 0),
    ("white", 92, 0, 0),
    ("red", 50, 68, 48),
    ("red", 32, 48, 32),
    ("orange", 68, 38, 66),
    ("orange", 62, 28, 52),
    ("orange", 55, 45, 46),
    ("yellow", 90, -8, 80),
    ("yellow", 82, 2, 55),
    ("green", 80, -60, 60),
    ("green", 50, -42, 38),
    ("green", 45, -18, 28),
    ("green", 30, -20, 15),
    ("aqua", 85, -40, -10),
    ("aqua", 60, -28, -14),
    ("blue", 35, 45, -85),
    ("blue", 45, 5, -42),
    ("blue", 68, -8, -30),
    ("blue", 22, 8, -28),
    ("blue", 16, 30, -46),
    ("purple", 42, 74, -66),
    ("purple", 40, 50, -45),
    ("purple", 28, 28, -25),
    ("purple", 68, 24, -24),
    ("pink", 72, 48, -2),
    ("pink", 85, 20, 2),
    ("brown", 30, 16, 20),
    ("brown", 45, 14, 28),
    ("brown", 36, 25, 38),
    ("brown", 20, 10, 12),
    ("beige", 78, 8, 20),
    ("beige", 66, 14, 20),
)


@dataclass(frozen=True, slots=True)
class MeasuredImage:
    """One image, at most 512 pixels a side, in the color spaces that the measures use."""

    rgb: np.ndarray  # uint8
    lab: np.ndarray  # float32: L 0 to 100, a and b about -100 to 100
    grey: np.ndarray  # uint8
    names: np.ndarray  # uint8: the row of each pixel's name in COLORS


@dataclass(frozen=True, slots=True)
class BasicTag:
    """One tag or measure, before it has a signature."""

    text: str
    kind: Kind
    category: str
    score: float | None


@dataclass(frozen=True, kw_only=True)
class Basic(Tagger):
    """Colors, plain backgrounds, greyscale, dark, bright, blurry, and faces, measured without a model.

    Tags are Danbooru's where it has them, and given where their measure passes a limit; scores are measures from
    0 to 1. What does not belong in captions (orientation, sharpness, lightness) is recorded as a `measure`.
    """

    name: ClassVar[str] = "basic"
    decode_threads: ClassVar[int] = 1  # engines run several of these at once
    libraries: ClassVar[tuple[str, ...]] = ("opencv-python-headless",)

    min_share: float = option(
        0.1, "Smallest share of the image's area at which a color is recorded, usually 0.05 to 0.2.", low=0.01, high=1
    )
    faces: bool = option(True, "Count faces, which takes most of the time.")

    def load(self, workspace: Workspace) -> PredictFn:
        return partial(predict, self, color_table())


def predict(tagger: Basic, table: np.ndarray, images: list[np.ndarray]) -> list[list[Annotation]]:
    """The annotations of each image."""
    return [
        [Annotation(f.text, f.kind, f.category, f.score, tagger.signature) for f in measure_tags(tagger, table, image)]
        for image in images
    ]


def measure_tags(tagger: Basic, table: np.ndarray, image: np.ndarray) -> list[BasicTag]:
    """All tags and measures of one H x W x 3 uint8 RGB image."""
    views = measured_image(image, table)
    found = [
        orientation_measure(*image.shape[:2]),
        *light_tags(views),
        *sharpness_tags(views),
        *color_tags(views, tagger.min_share),
    ]
    found += background_tags(views)
    return found + face_tags(find_faces(views.grey), views.grey.shape) if tagger.faces else found


def measured_image(image: np.ndarray, table: np.ndarray) -> MeasuredImage:
    """The image at most 512 pixels a side, in the color spaces that the measures use."""
    import cv2
    import numpy as np

    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    if scale < 1.0:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    names = table[image[..., 0] >> 3, image[..., 1] >> 3, image[..., 2] >> 3]
    return MeasuredImage(image, lab, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), names)


def color_table() -> np.ndarray:
    """The row in COLORS of the name of each color with 5 bits per channel: 32 x 32 x 32, uint8."""
    import cv2
    import numpy as np

    levels = (np.arange(32, dtype=np.float32) * 8 + 3.5) / 255
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(1, -1, 3)
    weight = np.array([0.5, 1.0, 1.0], np.float32)
    colors = cv2.cvtColor(cube, cv2.COLOR_RGB2LAB)[0] * weight
    rows = np.array([row[1:] for row in COLORS], np.float32) * weight
    distances = ((colors[:, None] - rows[None]) ** 2).sum(axis=-1)
    first = [next(n for n, row in enumerate(COLORS) if row[0] == name) for name, *_ in COLORS]
    table: np.ndarray = np.array(first, np.uint8)[distances.argmin(axis=1)].reshape(32, 32, 32)
    return table


def orientation_measure(height: int, width: int) -> BasicTag:
    """Tall, wide or square; the score is the shorter side as a share of the longer one."""
    shape = "square" if height == width else "tall" if height > width else "wide"
    return BasicTag(f"{shape}_image", "measure", "framing", _score(min(height, width) / max(height, width)))


def light_tags(views: MeasuredImage) -> list[BasicTag]:
    """Lightness (mean L*), and 'dark' or 'bright' where 6 pixels of 10 have L* below 25 or above 80: their share."""
    import numpy as np

    level = views.lab[..., 0]
    found = [BasicTag("lightness", "measure", "light", _score(float(level.mean()) / 100))]
    for text, share in (("dark", float(np.mean(level < 25))), ("bright", float(np.mean(level > 80)))):
        found += [BasicTag(text, "tag", "light", _score(share))] if share >= 0.6 else []
    return found


def sharpness_tags(views: MeasuredImage) -> list[BasicTag]:
    """'blurry' where even the sharpest parts are soft; the score of both goes from 0 to 1 and they add up to 1.

    The variance of the Laplacian (Pech-Pacheco, ICPR 2000) grows with contrast too, so it is divided
    by the variance of the image, in 4 x 4 tiles: r. The tile at the 90th percentile counts, since
    a soft background is not blur. blur = 1 / (1 + r / 0.04): photographs in focus at 512 pixels have
    r from 0.3 up; after a Gaussian of 1.5 pixels they have 0.04 or less, which makes blur 0.5 or more.
    Tiles without contrast are ignored; an image of such tiles gets no measure. Grain counts as sharpness.
    """
    import cv2
    import numpy as np

    grey = views.grey.astype(np.float32)
    edges = cv2.Laplacian(grey, cv2.CV_32F, ksize=1)
    tiles = [
        (float(edges[y][:, x].var()), float(grey[y][:, x].var()))
        for y in _quarters(grey.shape[0])
        for x in _quarters(grey.shape[1])
    ]
    ratios = [edge / contrast for edge, contrast in tiles if contrast > 30]
    if not ratios:
        return []
    blur = 1 / (1 + float(np.percentile(ratios, 90)) / 0.04)
    found = [BasicTag("sharpness", "measure", "quality", _score(1 - blur))]
    return [*found, BasicTag("blurry", "tag", "quality", _score(blur))] if blur >= 0.5 else found


def color_tags(views: MeasuredImage, least: float) -> list[BasicTag]:
    """Greyscale, monochrome, or the colors that fill at least the share `least` of the image.

    greyscale: the share of pixels with a chroma below 5. monochrome: the share within 6 of one hue's
    line through neutral grey in the a, b plane, and with less than twice the mean chroma plus 10, so that a
    red spot on grey is not monochrome. Both are tagged from 0.99 up. A color's score is its share.
    """
    import numpy as np

    a, b = views.lab[..., 1], views.lab[..., 2]
    neutral = float(np.mean(np.hypot(a, b) < 5))
    if neutral >= 0.99:
        return [BasicTag(text, "tag", "color", _score(neutral)) for text in ("greyscale", "monochrome")]
    x, y = float(a.mean()), float(b.mean())
    length = max(float(np.hypot(x, y)), 1e-6)
    along, across = (a * x + b * y) / length, (a * y - b * x) / length
    one_hue = float(np.mean((np.abs(across) < 6) & (along > -6) & (along < 2 * length + 10)))
    found = [BasicTag("monochrome", "tag", "color", _score(one_hue))] if one_hue >= 0.99 else []
    shares = np.bincount(views.names.ravel(), minlength=len(COLORS)) / views.names.size
    ranked = sorted((-float(share), COLORS[n][0]) for n, share in enumerate(shares) if share >= least)
    return found + [BasicTag(f"{name}_theme", "tag", "color", _score(-share)) for share, name in ranked]


def background_tags(views: MeasuredImage) -> list[BasicTag]:
    """'simple_background' and its color where the border is plain; their score is the share of plain pixels.

    The border is 1/20 of the shorter side: the whole top edge and the upper halves of the left and right ones,
    as people reach the bottom edge. Plain pixels are within 10 (CIE 1976 difference) of the border's median color;
    tagged from a share of 0.9 up.
    """
    import numpy as np

    height, width = views.grey.shape
    wide = max(1, min(height, width) // 20)
    edge = np.zeros((height, width), bool)
    edge[:wide] = True
    edge[: (height + 1) // 2, :wide] = edge[: (height + 1) // 2, -wide:] = True
    colors = views.lab[edge]
    plain = float(np.mean(np.linalg.norm(colors - np.median(colors, axis=0), axis=1) < 10))
    if plain < 0.9:
        return []
    name = COLORS[int(np.bincount(views.names[edge]).argmax())][0]
    return [BasicTag(text, "tag", "background", _score(plain)) for text in ("simple_background", f"{name}_background")]


def face_tags(faces: list[Box], shape: tuple[int, ...]) -> list[BasicTag]:
    """'face' or '2_faces' without a score, as a count has none; 'close-up' for a large one.

    A close-up's score is the largest face's box, eyebrows to chin, as a share of the image's
    shorter side, from 0.65 up; a head and shoulders have 0.4 to 0.6.
    """
    if not faces:
        return []
    text = "face" if len(faces) == 1 else f"{len(faces)}_faces"
    share = max(max(face[2], face[3]) for face in faces) / min(shape)
    close = [BasicTag("close-up", "tag", "framing", _score(share))] if share >= 0.65 else []
    return [BasicTag(text, "tag", "people", None), *close]


def _quarters(length: int) -> list[slice]:
    return [slice(length * n // 4, max(length * (n + 1) // 4, length * n // 4 + 1)) for n in range(4)]


def _score(value: float) -> float:
    return round(min(max(float(value), 0.0), 1.0), 4)
