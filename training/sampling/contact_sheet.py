"""Contact sheets: a grid of images with labels for its columns and rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

_PAPER, _INK, _EMPTY = (250, 250, 248), (40, 40, 40), (232, 232, 228)
_GAP = 6  # pixels between images
_LARGEST = 16_000  # pixels per side: the limit of many viewers and of JPEG; larger sheets are scaled down


@dataclass(frozen=True, slots=True)
class ContactSheet:
    """A grid of images with a label for each column and each row."""

    columns: list[str]
    rows: list[str]
    images: list[list[Image | None]]  # by row, then column; None leaves a cell empty

    def draw(self, side: int = 256) -> Image:
        """Draw the sheet as an RGB image; each cell is `side` pixels wide and high, and its image is scaled to fit."""
        from PIL import Image as PillowImage
        from PIL import ImageDraw, ImageOps

        across, down = len(self.columns), len(self.rows)
        side = min(side, (_LARGEST - side) // max(across + 1, down, 1) - _GAP)
        font = _font(max(11, side // 16))
        line = _height(font)
        left, top = min(side, 12 * line), 2 * line + 2 * _GAP
        size = (left + across * (side + _GAP) + _GAP, top + down * (side + _GAP))
        sheet = PillowImage.new("RGB", size, _PAPER)
        pen = ImageDraw.Draw(sheet)
        for column, label in enumerate(self.columns):
            x = left + column * (side + _GAP)
            for k, words in enumerate(_wrapped(label, font, side, 2)):
                pen.text((x, _GAP + k * line), words, _INK, font)
        for row, label in enumerate(self.rows):
            y = top + row * (side + _GAP)
            for k, words in enumerate(_wrapped(label, font, left - 2 * _GAP, side // line)):
                pen.text((_GAP, y + k * line), words, _INK, font)
            for column, image in enumerate(self.images[row]):
                x = left + column * (side + _GAP)
                if image is None:
                    pen.rectangle((x, y, x + side - 1, y + side - 1), _EMPTY)
                    continue
                fitted = ImageOps.contain(image, (side, side), PillowImage.Resampling.LANCZOS)
                sheet.paste(fitted, (x + (side - fitted.width) // 2, y + (side - fitted.height) // 2))
        return sheet


def _font(size: int) -> FreeTypeFont | ImageFont:
    """Pillow's built-in font."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _height(font: FreeTypeFont | ImageFont) -> int:
    _, top, _, bottom = font.getbbox("Ágy")
    return round((bottom + max(0, top)) * 1.15)


def _wrapped(text: str, font: FreeTypeFont | ImageFont, width: int, lines: int) -> list[str]:
    """Wrap a text at spaces into at most `lines` lines of `width` pixels; '…' marks what is cut off."""
    done: list[str] = []
    for word in text.split():
        if done and font.getlength(f"{done[-1]} {word}") <= width:
            done[-1] += f" {word}"
        else:
            done.append(word)
    if len(done) > lines:
        done = [*done[: max(0, lines - 1)], f"{done[lines - 1]}…" if lines else ""]
    return [_cut(words, font, width) for words in done if words]


def _cut(words: str, font: FreeTypeFont | ImageFont, width: int) -> str:
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(f"{words}…") > width:
        words = words[:-1]
    return f"{words}…"
