"""Make the sample images: crops of photographs in the wheels of scikit-image and matplotlib, and rendered scenes.

python -m sample_data.make [FOLDER]   (default: this folder; needs the dev extra)
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sample_data.drawn import DRAWN_COPIES, DRAWN_IMAGES, DRAWN_TRUNCATED, DrawnImage, draw_image, draw_overview

if TYPE_CHECKING:
    from PIL.Image import Image

HERE = Path(__file__).resolve().parent
ROTATED = 6  # EXIF orientation: stored rotated by 90 degrees, to be shown rotated clockwise


@dataclass(frozen=True)
class PhotoCrop:
    """One sample image: a crop of a photograph, with its file format."""

    path: str
    source: str
    box: tuple[int, int, int, int]  # left, top, right, bottom in pixels of the source
    format: str
    options: dict[str, Any] = field(default_factory=dict)  # Pillow's, for saving
    mode: str = "RGB"
    side: int = 0  # longest side in pixels; 0 keeps the crop's own
    orientation: int = 1


PHOTO_CROPS = (
    PhotoCrop("collins/portrait.jpg", "astronaut", (0, 0, 512, 512), "JPEG", {"quality": 88}),
    PhotoCrop("collins/head.png", "astronaut", (120, 0, 330, 240), "PNG", {"optimize": True}),
    PhotoCrop("collins/suit.webp", "astronaut", (20, 186, 512, 512), "WEBP", {"quality": 85, "method": 6}),
    PhotoCrop("collins/TALL.JPG", "astronaut", (90, 0, 346, 512), "JPEG", {"quality": 88}),
    PhotoCrop("collins/on-its-side.jpg", "astronaut", (100, 0, 512, 290), "JPEG", {"quality": 88}, orientation=ROTATED),
    PhotoCrop("collins/cutout.png", "astronaut", (60, 0, 400, 420), "PNG", {"optimize": True}, "RGBA"),
    PhotoCrop("collins/grey.tif", "astronaut", (110, 0, 380, 330), "TIFF", {"compression": "tiff_adobe_deflate"}, "L"),
    PhotoCrop("collins/flag.gif", "astronaut", (0, 0, 340, 440), "GIF", {}, "P", side=360),
    PhotoCrop("collins/smile.bmp", "astronaut", (150, 40, 310, 210), "BMP"),
    PhotoCrop("collins/Eileen à gauche.avif", "astronaut", (40, 10, 460, 350), "AVIF", {"quality": 75, "speed": 6}),
    PhotoCrop("collins/portrait-again.jpg", "astronaut", (4, 4, 508, 508), "JPEG", {"quality": 70}, side=448),
    PhotoCrop("cat/chelsea.jpg", "chelsea", (0, 0, 451, 300), "JPEG", {"quality": 90}),
    PhotoCrop("cat/eyes.png", "chelsea", (110, 50, 370, 200), "PNG", {"optimize": True}),
    PhotoCrop("cat/face.webp", "chelsea", (60, 0, 380, 300), "WEBP", {"quality": 85, "method": 6}),
    PhotoCrop("cat/nose.jpg", "chelsea", (170, 130, 350, 300), "JPEG", {"quality": 90}),
    PhotoCrop("cat/stripes.tif", "chelsea", (20, 0, 240, 220), "TIFF", {"compression": "tiff_lzw"}),
    PhotoCrop("cat/print.jpg", "chelsea", (130, 0, 350, 300), "JPEG", {"quality": 90}, "CMYK"),
    PhotoCrop("woman/portrait.jpg", "hopper", (0, 0, 512, 600), "JPEG", {"quality": 88}),
    PhotoCrop("woman/head.jpg", "hopper", (110, 20, 420, 360), "JPEG", {"quality": 88}),
    PhotoCrop("woman/left.webp", "hopper", (0, 0, 380, 480), "WEBP", {"quality": 85, "method": 6}),
    PhotoCrop("woman/right.jpg", "hopper", (150, 60, 512, 420), "JPEG", {"quality": 88}),
    PhotoCrop("woman/grey.png", "hopper", (60, 10, 460, 430), "PNG", {"optimize": True}, "L", side=320),
    PhotoCrop("woman/close.jpg", "hopper", (150, 90, 380, 350), "JPEG", {"quality": 88}),
)
COPIES = {"collins/head_copy.png": "collins/head.png"} | DRAWN_COPIES  # the same bytes under another name
TRUNCATED = {"collins/half.jpg": "collins/portrait.jpg"} | DRAWN_TRUNCATED  # its first half
NOTES = {"collins/notes.txt": "Pictures of Eileen Collins, commander of STS-93. This file is no picture.\n"}


def photograph(source: str) -> Image:
    """One of the three photographs, from its wheel."""
    import matplotlib
    import skimage.data
    from PIL import Image as Pillow

    if source == "hopper":
        return Pillow.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB")
    return Pillow.fromarray(getattr(skimage.data, source)())


def crop_photo(photo_crop: PhotoCrop) -> Image:
    """The crop before encoding: upright, in its mode; a palette is applied when it is encoded."""
    from PIL import Image as Pillow

    image = photograph(photo_crop.source).crop(photo_crop.box)
    if photo_crop.side:
        scale = photo_crop.side / max(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Pillow.Resampling.LANCZOS)
    if photo_crop.mode == "RGBA":
        image.putalpha(oval_mask(image.size))
    return image.convert(photo_crop.mode) if photo_crop.mode in ("L", "CMYK") else image


def oval_mask(size: tuple[int, int]) -> Image:
    """An alpha mask: opaque inside the largest oval, with an edge of 12 pixels, transparent outside."""
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFilter

    mask = Pillow.new("L", size, 0)
    ImageDraw.Draw(mask).ellipse((12, 12, size[0] - 13, size[1] - 13), fill=255)
    return mask.filter(ImageFilter.BoxBlur(6))


def encode(image: Image, item: PhotoCrop | DrawnImage) -> bytes:
    """The bytes of an image file."""
    from PIL import Image as Pillow

    options = dict(item.options)
    if item.mode == "P":
        image = image.quantize(128, method=Pillow.Quantize.MEDIANCUT)
    if item.orientation == ROTATED:
        image = image.transpose(Pillow.Transpose.ROTATE_90)
        exif = Pillow.Exif()
        exif[0x0112] = ROTATED
        options["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, item.format, **options)
    return buffer.getvalue()


def png_bytes(image: Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def make(folder: Path) -> None:
    """Write every sample file below `folder`."""
    files = {photo_crop.path: encode(crop_photo(photo_crop), photo_crop) for photo_crop in PHOTO_CROPS}
    files |= {shot.path: encode(draw_image(shot), shot) for shot in DRAWN_IMAGES}
    files |= {copy: files[path] for copy, path in COPIES.items()}
    files |= {part: files[path][: len(files[path]) // 2] for part, path in TRUNCATED.items()}
    files |= {path: text.encode() for path, text in NOTES.items()}
    files["world.png"] = png_bytes(draw_overview())
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
