"""The drawn sample images: who is in them, how large they are, and how each is stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sample_data.world.render import paint
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
class Shot:
    """One image of the world: the seed-th scene of whom the folder is named after."""

    path: str
    seed: int
    width: int
    height: int
    format: str = "JPEG"
    mode: str = "RGB"  # RGBA: without the background; L: without color; P: a palette
    orientation: int = 1
    trim: int = 0  # pixels cut off at every side

    @property
    def options(self) -> dict[str, Any]:
        return OPTIONS[self.format]


# Seeds whose places, poses, hair and beards differ.
MEN = (16, 18, 31, 41, 66, 71, 77, 83, 117, 119, 122, 139, 141, 147, 157, 179, 201, 206, 208, 242, 290, 325, 341, 374)
GIRLS = (2, 21, 66, 69, 73, 111, 124, 171, 207, 225, 241, 270, 323, 326)

SHOTS = (
    Shot("smith/forge.jpg", 64, 512, 512),
    Shot("smith/anvil.jpg", 262, 600, 450),
    Shot("smith/resting.jpg", 120, 480, 480),
    Shot("smith/beach.jpg", 5, 512, 512),
    Shot("smith/kitchen.png", 3, 320, 320, "PNG"),
    Shot("smith/flower.webp", 4, 448, 512, "WEBP"),
    Shot("smith/pan.jpg", 10, 384, 384),
    Shot("smith/umbrella.png", 20, 400, 400, "PNG"),
    Shot("smith/night walk.jpg", 115, 512, 512),
    Shot("smith/READING.JPG", 45, 480, 480),
    Shot("smith/rain.jpg", 278, 512, 448),
    Shot("smith/watercolor.jpg", 9, 400, 400),
    Shot("smith/cup.webp", 95, 512, 512, "WEBP"),
    Shot("smith/camp.jpg", 310, 448, 448),
    Shot("smith/on-its-side.jpg", 263, 480, 600, orientation=6),
    Shot("smith/book.avif", 47, 512, 512, "AVIF"),
    Shot("smith/library.tif", 121, 256, 256, "TIFF"),
    Shot("smith/cutout.png", 46, 360, 400, "PNG", "RGBA"),
    Shot("smith/wide.jpg", 104, 640, 220),
    Shot("smith/tall.jpg", 99, 220, 640),
    Shot("smith/ink.png", 136, 360, 360, "PNG", "L"),
    Shot("smith/small.bmp", 354, 200, 200, "BMP"),
    Shot("smith/portrait.jpg", 6, 512, 512),
    Shot("smith/yellow.gif", 15, 300, 300, "GIF", "P"),
    Shot("smith/beach-again.jpg", 5, 440, 440, trim=6),
    Shot("wren/street.jpg", 1, 512, 512),
    Shot("wren/reading.jpg", 0, 448, 512),
    Shot("wren/cooking.png", 21, 320, 320, "PNG"),
    Shot("wren/hammer.jpg", 75, 512, 512),
    Shot("wren/waving.webp", 120, 512, 384, "WEBP"),
    Shot("wren/tea.png", 45, 360, 360, "PNG"),
    Shot("wren/night sea.jpg", 281, 512, 512),
    Shot("wren/snow.jpg", 3, 400, 480),
    Shot("wren/watercolor.jpg", 276, 400, 400),
    Shot("wren/umbrella.jpg", 287, 512, 512),
    Shot("wren/book.webp", 110, 480, 480, "WEBP"),
    Shot("wren/on-its-side.jpg", 17, 480, 600, orientation=6),
    *(Shot(f"man/{seed:03}.jpg", seed, 384, 384) for seed in MEN),
    *(Shot(f"girl/{seed:03}.jpg", seed, 384, 384) for seed in GIRLS),
)
DRAWN_COPIES = {"smith/forge copy.jpg": "smith/forge.jpg"}  # the same bytes under another name
DRAWN_TRUNCATED = {"smith/broken.jpg": "smith/portrait.jpg"}  # its first half

# The sheet: seeds of the base's scenes, nine in a row, then of the cast's.
SHOWN = (
    5, 62, 109, 186, 205, 211, 223, 49, 267,
    153, 47, 78, 272, 182, 93, 188, 3, 224,
    89, 119, 77, 150, 249, 295, 178, 180, 106,
)  # fmt: skip
SHOWN_CAST = {"smith": (64, 5, 4, 310, 20, 9), "wren": (0, 45, 120)}
CELL = 108  # pixels of an image on it


def scene(shot: Shot) -> Scene:
    """What the shot shows."""
    folder = shot.path.partition("/")[0]
    gender = {"man": "boy", "girl": "girl"}.get(folder)
    return class_scene(gender, shot.seed) if gender else cast_scene(folder, shot.seed)


def drawn(shot: Shot) -> Image:
    """The shot, upright and not encoded yet, in its mode; GIF's palette comes at the end."""
    what = scene(shot)
    image = cut_out(what, shot.width, shot.height) if shot.mode == "RGBA" else paint(what, shot.width, shot.height)
    image = image.crop((shot.trim, shot.trim, image.width - shot.trim, image.height - shot.trim))
    return image.convert("L") if shot.mode == "L" else image


def cut_out(what: Scene, width: int, height: int) -> Image:
    """The person alone, as RGBA: what differs between a white and a blue background is transparent."""
    import numpy as np
    from PIL import Image as Pillow

    views = (replace(what, place="", style="flat", background=color) for color in ("white", "blue"))
    white, blue = (np.asarray(paint(view, width, height), dtype=np.float64) for view in views)
    red = 0  # the channel in which the two backgrounds are farthest apart
    apart = white[0, 0, red] - blue[0, 0, red]
    cover = 1 - (white[..., red] - blue[..., red]) / apart
    color = 255 - (255 - white) / np.maximum(cover, 1 / 255)[..., None]
    rgba = np.concatenate([color, 255 * cover[..., None]], axis=2)
    return Pillow.fromarray(np.clip(np.rint(rgba), 0, 255).astype(np.uint8), "RGBA")


def sheet() -> Image:
    """The world at a glance: three rows of the base's scenes, below them Smith and Wren; 256 colors."""
    from PIL import Image as Pillow

    scenes = [scene_of(seed) for seed in SHOWN]
    scenes += [cast_scene(name, seed) for name, seeds in SHOWN_CAST.items() for seed in seeds]
    step = CELL + 4
    page = Pillow.new("RGB", (9 * step - 4, 4 * step + 8), "white")
    for k, what in enumerate(scenes):
        row, column = divmod(k, 9)
        page.paste(paint(what, CELL, CELL), (column * step, row * step + (12 if row == 3 else 0)))
    palette = page.quantize(256, method=Pillow.Quantize.FASTOCTREE)
    return page.quantize(palette=palette, dither=Pillow.Dither.FLOYDSTEINBERG)
