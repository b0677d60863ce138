"""Make the sample images: photographs that ship in the wheels of scikit-image and matplotlib, and drawn ones.

python -m sample_data.make [FOLDER]   (by default this folder; needs prep's dev extra)
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sample_data.drawn import DRAWN_COPIES, DRAWN_TRUNCATED, SHOTS, Shot, drawn, sheet

if TYPE_CHECKING:
    from PIL.Image import Image

HERE = Path(__file__).resolve().parent
TURNED = 6  # EXIF orientation: stored lying on its side, to be shown turned clockwise


@dataclass(frozen=True)
class Cut:
    """One sample image: a window of a photograph, as a format stores it."""

    path: str
    source: str
    box: tuple[int, int, int, int]  # left, top, right, bottom in pixels of the source
    format: str
    options: dict[str, Any] = field(default_factory=dict)  # Pillow's, for saving
    mode: str = "RGB"
    side: int = 0  # longest side in pixels; 0 keeps the window's own
    orientation: int = 1


CUTS = (
    Cut("collins/portrait.jpg", "astronaut", (0, 0, 512, 512), "JPEG", {"quality": 88}),
    Cut("collins/head.png", "astronaut", (120, 0, 330, 240), "PNG", {"optimize": True}),
    Cut("collins/suit.webp", "astronaut", (20, 186, 512, 512), "WEBP", {"quality": 85, "method": 6}),
    Cut("collins/TALL.JPG", "astronaut", (90, 0, 346, 512), "JPEG", {"quality": 88}),
    Cut("collins/on-its-side.jpg", "astronaut", (100, 0, 512, 290), "JPEG", {"quality": 88}, orientation=TURNED),
    Cut("collins/cutout.png", "astronaut", (60, 0, 400, 420), "PNG", {"optimize": True}, "RGBA"),
    Cut("collins/grey.tif", "astronaut", (110, 0, 380, 330), "TIFF", {"compression": "tiff_adobe_deflate"}, "L"),
    Cut("collins/flag.gif", "astronaut", (0, 0, 340, 440), "GIF", {}, "P", side=360),
    Cut("collins/smile.bmp", "astronaut", (150, 40, 310, 210), "BMP"),
    Cut("collins/Eileen à gauche.avif", "astronaut", (40, 10, 460, 350), "AVIF", {"quality": 75, "speed": 6}),
    Cut("collins/portrait-again.jpg", "astronaut", (4, 4, 508, 508), "JPEG", {"quality": 70}, side=448),
    Cut("cat/chelsea.jpg", "chelsea", (0, 0, 451, 300), "JPEG", {"quality": 90}),
    Cut("cat/eyes.png", "chelsea", (110, 50, 370, 200), "PNG", {"optimize": True}),
    Cut("cat/face.webp", "chelsea", (60, 0, 380, 300), "WEBP", {"quality": 85, "method": 6}),
    Cut("cat/nose.jpg", "chelsea", (170, 130, 350, 300), "JPEG", {"quality": 90}),
    Cut("cat/stripes.tif", "chelsea", (20, 0, 240, 220), "TIFF", {"compression": "tiff_lzw"}),
    Cut("cat/print.jpg", "chelsea", (130, 0, 350, 300), "JPEG", {"quality": 90}, "CMYK"),
    Cut("woman/portrait.jpg", "hopper", (0, 0, 512, 600), "JPEG", {"quality": 88}),
    Cut("woman/head.jpg", "hopper", (110, 20, 420, 360), "JPEG", {"quality": 88}),
    Cut("woman/left.webp", "hopper", (0, 0, 380, 480), "WEBP", {"quality": 85, "method": 6}),
    Cut("woman/right.jpg", "hopper", (150, 60, 512, 420), "JPEG", {"quality": 88}),
    Cut("woman/grey.png", "hopper", (60, 10, 460, 430), "PNG", {"optimize": True}, "L", side=320),
    Cut("woman/close.jpg", "hopper", (150, 90, 380, 350), "JPEG", {"quality": 88}),
)
COPIES = {"collins/head_copy.png": "collins/head.png"} | DRAWN_COPIES  # the same bytes under another name
TRUNCATED = {"collins/half.jpg": "collins/portrait.jpg"} | DRAWN_TRUNCATED  # its first half
NOTES = {"collins/notes.txt": "Images of Eileen Collins, commander of STS-93. This file is no image.\n"}


def photograph(source: str) -> Image:
    """One of the three photographs, as its wheel ships it."""
    import matplotlib
    import skimage.data
    from PIL import Image as Pillow

    if source == "hopper":
        return Pillow.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB")
    return Pillow.fromarray(getattr(skimage.data, source)())


def image(cut: Cut) -> Image:
    """The cut, upright and not encoded yet, in its mode; GIF's palette comes at the end."""
    from PIL import Image as Pillow

    image = photograph(cut.source).crop(cut.box)
    if cut.side:
        scale = cut.side / max(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Pillow.Resampling.LANCZOS)
    if cut.mode == "RGBA":
        image.putalpha(oval(image.size))
    return image.convert(cut.mode) if cut.mode in ("L", "CMYK") else image


def oval(size: tuple[int, int]) -> Image:
    """A mask: opaque inside the largest oval, its rim soft over 12 pixels, transparent outside."""
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFilter

    mask = Pillow.new("L", size, 0)
    ImageDraw.Draw(mask).ellipse((12, 12, size[0] - 13, size[1] - 13), fill=255)
    return mask.filter(ImageFilter.BoxBlur(6))


def encode(image: Image, item: Cut | Shot) -> bytes:
    """An upright image as its file's bytes."""
    from PIL import Image as Pillow

    options = dict(item.options)
    if item.mode == "P":
        image = image.quantize(128, method=Pillow.Quantize.MEDIANCUT)
    if item.orientation == TURNED:
        image = image.transpose(Pillow.Transpose.ROTATE_90)
        exif = Pillow.Exif()
        exif[0x0112] = TURNED
        options["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, item.format, **options)
    return buffer.getvalue()


def png(image: Image) -> bytes:
    """An image as a PNG file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def make(folder: Path) -> None:
    """Write every sample file below `folder`."""
    files = {cut.path: encode(image(cut), cut) for cut in CUTS}
    files |= {shot.path: encode(drawn(shot), shot) for shot in SHOTS}
    files |= {copy: files[path] for copy, path in COPIES.items()}
    files |= {part: files[path][: len(files[path]) // 2] for part, path in TRUNCATED.items()}
    files |= {path: text.encode() for path, text in NOTES.items()}
    files["world.png"] = png(sheet())
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
