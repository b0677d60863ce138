"""prep control: draws the map that a kind of control makes of an image."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace, write_atomic
from training.sampling.control.fitting import RESIZE_MODES, fit, pixel_perfect
from training.sampling.control.kinds import MapMaker
from training.sampling.read_image import read_image
from training.sampling.settings import parse_size

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlMap:
    """How a map is drawn."""

    kind: str  # a key of KINDS
    resolution: int = 512  # pixels of the shorter side that it is drawn at; 0: that of the result
    low: float = -1.0  # thresholds; -1: the usual ones
    high: float = -1.0
    detector: str = ""  # model that draws; empty: the usual one of the kind
    size: str = ""  # of the result, such as 512x768; empty: as it is drawn
    resize: str = "crop"  # of RESIZE_MODES: how it gets this size

    def draw(self, source: Path, target: Path, workspace: Workspace) -> tuple[int, int]:
        """Write the map of an image to a new file; returns its width and height. PrepError if either cannot be."""
        assert self.resize in RESIZE_MODES
        if target.suffix.lower() not in FORMATS:
            raise PrepError(
                f"control: {escape_control(target.name)} has no ending of an image that prep writes.",
                f"Name it with one of: {', '.join(FORMATS)}",
            )
        if target.exists():
            raise PrepError(f"control: {escape_control(str(target))} exists already.", "Give the name of a new file.")
        wanted = parse_size(self.size, "--size") if self.size else None
        maker = MapMaker.find(self.kind, workspace, self.detector, self.low, self.high)
        image = read_image(source)
        have = (image.shape[0], image.shape[1])
        perfect = pixel_perfect(have, (wanted[1], wanted[0]), self.resize) if wanted else min(have)
        drawn = maker.make(image, self.resolution or perfect)
        if wanted:
            drawn = fit(drawn, wanted[1], wanted[0], self.resize)
        write_atomic(target, _encoded(drawn, FORMATS[target.suffix.lower()]))
        return drawn.shape[1], drawn.shape[0]


def _encoded(pixels: object, format: str) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format, quality=95)  # type: ignore[arg-type]
    return data.getvalue()
