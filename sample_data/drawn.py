"""The rendered sample images: the subject, size and file format of each, and the overview image world.png."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sample_data.world.render import render_scene
from sample_data.world.scene import Scene, cast_scene, class_scene, scene_of

if TYPE_CHECKING:
    from PIL.Image import Image

OPTIONS: dict[str, dict[str, Any]] = {  # Pillow's, for saving
    "JPEG": {"quality": 88},
    "PNG": {"optimize": True},
    "WEBP": {"quality": 85, "method": 6},
    "TIFF": {"compression": "tiff_lzw"},
    "BMP": {},
    "AVIF": {"quality": 75, "speed": 6},
    "GIF": {},
}


@dataclass(frozen=True)
class DrawnImage:
    """One rendered sample image: the scene with this seed, of the subject or class that the folder is named after."""

    path: str
    seed: int
    width: int
    height: int
    format: str = "JPEG"
    mode: str = "RGB"  # RGBA: background cut out; L: greyscale; P: palette
    orientation: int = 1
    margin: int = 0  # pixels cut off at every side

    @property
    def options(self) -> dict[str, Any]:
        return OPTIONS[self.format]


# Seeds chosen so that places, poses, hair and beards differ.
MEN = (16, 18, 31, 41, 66, 71, 77, 83, 117, 119, 122, 139, 141, 147, 157, 179, 201, 206, 208, 242, 290, 325, 341, 374)
GIRLS = (2, 21, 66, 69, 73, 111, 124, 171, 207, 225, 241, 270, 323, 326)

DRAWN_IMAGES = (
    DrawnImage("smith/forge.jpg", 64, 512, 512),
    DrawnImage("smith/anvil.jpg", 262, 600, 450),
    DrawnImage("smith/resting.jpg", 120, 480, 480),
    DrawnImage("smith/beach.jpg", 5, 512, 512),
    DrawnImage("smith/kitchen.png", 3, 320, 320, "PNG"),
    DrawnImage("smith/flower.webp", 4, 448, 512, "WEBP"),
    DrawnImage("smith/pan.jpg", 10, 384, 384),
    DrawnImage("smith/umbrella.png", 20, 400, 400, "PNG"),
    DrawnImage("smith/night walk.jpg", 115, 512, 512),
    DrawnImage("smith/READING.JPG", 45, 480, 480),
    DrawnImage("smith/rain.jpg", 278, 512, 448),
    DrawnImage("smith/watercolor.jpg", 9, 400, 400),
    DrawnImage("smith/cup.webp", 95, 512, 512, "WEBP"),
    DrawnImage("smith/camp.jpg", 310, 448, 448),
    DrawnImage("smith/on-its-side.jpg", 263, 480, 600, orientation=6),
    DrawnImage("smith/book.avif", 47, 512, 512, "AVIF"),
    DrawnImage("smith/library.tif", 121, 256, 256, "TIFF"),
    DrawnImage("smith/cutout.png", 46, 360, 400, "PNG", "RGBA"),
    DrawnImage("smith/wide.jpg", 104, 640, 220),
    DrawnImage("smith/tall.jpg", 99, 220, 640),
    DrawnImage("smith/ink.png", 136, 360, 360, "PNG", "L"),
    DrawnImage("smith/small.bmp", 354, 200, 200, "BMP"),
    DrawnImage("smith/portrait.jpg", 6, 512, 512),
    DrawnImage("smith/yellow.gif", 15, 300, 300, "GIF", "P"),
    DrawnImage("smith/beach-again.jpg", 5, 440, 440, margin=6),
    DrawnImage("wren/street.jpg", 1, 512, 512),
    DrawnImage("wren/reading.jpg", 0, 448, 512),
    DrawnImage("wren/cooking.png", 21, 320, 320, "PNG"),
    DrawnImage("wren/hammer.jpg", 75, 512, 512),
    DrawnImage("wren/waving.webp", 120, 512, 384, "WEBP"),
    DrawnImage("wren/tea.png", 45, 360, 360, "PNG"),
    DrawnImage("wren/night sea.jpg", 281, 512, 512),
    DrawnImage("wren/snow.jpg", 3, 400, 480),
    DrawnImage("wren/watercolor.jpg", 276, 400, 400),
    DrawnImage("wren/umbrella.jpg", 287, 512, 512),
    DrawnImage("wren/book.webp", 110, 480, 480, "WEBP"),
    DrawnImage("wren/on-its-side.jpg", 17, 480, 600, orientation=6),
    *(DrawnImage(f"man/{seed:03}.jpg", seed, 384, 384) for seed in MEN),
    *(DrawnImage(f"girl/{seed:03}.jpg", seed, 384, 384) for seed in GIRLS),
)
DRAWN_COPIES = {"smith/forge copy.jpg": "smith/forge.jpg"}  # the same bytes under another name
DRAWN_TRUNCATED = {"smith/broken.jpg": "smith/portrait.jpg"}  # its first half

# The overview image: seeds of random scenes, nine per row, then of scenes with the cast.
OVERVIEW_SEEDS = (
    5, 62, 109, 186, 205, 211, 223, 49, 267,
    153, 47, 78, 272, 182, 93, 188, 3, 224,
    89, 119, 77, 150, 249, 295, 178, 180, 106,
)  # fmt: skip
OVERVIEW_CAST = {"smith": (64, 5, 4, 310, 20, 9), "wren": (0, 45, 120)}
CELL = 108  # pixels of a cell


def scene_for(image_spec: DrawnImage) -> Scene:
    """The scene that a sample image shows."""
    folder = image_spec.path.partition("/")[0]
    gender = {"man": "boy", "girl": "girl"}.get(folder)
    return class_scene(gender, image_spec.seed) if gender else cast_scene(folder, image_spec.seed)


def draw_image(image_spec: DrawnImage) -> Image:
    """The image before encoding: upright, in its mode; a palette is applied when it is encoded."""
    scene = scene_for(image_spec)
    image = (
        draw_cutout(scene, image_spec.width, image_spec.height)
        if image_spec.mode == "RGBA"
        else render_scene(scene, image_spec.width, image_spec.height)
    )
    image = image.crop(
        (image_spec.margin, image_spec.margin, image.width - image_spec.margin, image.height - image_spec.margin)
    )
    return image.convert("L") if image_spec.mode == "L" else image


def draw_cutout(scene: Scene, width: int, height: int) -> Image:
    """The person without background, as RGBA: alpha follows from the difference of a white and a blue background."""
    import numpy as np
    from PIL import Image as Pillow

    views = (replace(scene, place="", style="flat", background=color) for color in ("white", "blue"))
    white, blue = (np.asarray(render_scene(view, width, height), dtype=np.float64) for view in views)
    red = 0  # the channel in which the two backgrounds are farthest apart
    apart = white[0, 0, red] - blue[0, 0, red]
    cover = 1 - (white[..., red] - blue[..., red]) / apart
    color = 255 - (255 - white) / np.maximum(cover, 1 / 255)[..., None]
    rgba = np.concatenate([color, 255 * cover[..., None]], axis=2)
    return Pillow.fromarray(np.clip(np.rint(rgba), 0, 255).astype(np.uint8), "RGBA")


def draw_overview() -> Image:
    """The overview image: three rows of random scenes, below them Smith and Wren; 256 colors."""
    from PIL import Image as Pillow

    scenes = [scene_of(seed) for seed in OVERVIEW_SEEDS]
    scenes += [cast_scene(name, seed) for name, seeds in OVERVIEW_CAST.items() for seed in seeds]
    step = CELL + 4
    page = Pillow.new("RGB", (9 * step - 4, 4 * step + 8), "white")
    for k, scene in enumerate(scenes):
        row, column = divmod(k, 9)
        page.paste(render_scene(scene, CELL, CELL), (column * step, row * step + (12 if row == 3 else 0)))
    palette = page.quantize(256, method=Pillow.Quantize.FASTOCTREE)
    return page.quantize(palette=palette, dither=Pillow.Dither.FLOYDSTEINBERG)
