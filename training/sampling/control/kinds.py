"""The table of kinds of control: how the map is drawn, and the usual control models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.workspace import Workspace
from training.sampling.control import detectors, maps
from training.sampling.control.fitting import at_resolution

if TYPE_CHECKING:
    from training.sampling.control.fitting import Pixels

    # (image, low, high) -> map
    Draw = Callable[[Pixels, float, float], Pixels]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of control map."""

    what: str  # for the help
    draw: Draw | None = None  # without a model; None: by a model, see `detectors`
    low: float = 0.0  # usual thresholds
    high: float = 0.0
    scaled: bool = True  # drawn on the image scaled to a resolution; else on the image as it is
    sd1: str = ""  # hub ids of the usual control models, by Family.control_models
    sd2: str = ""
    xl: str = ""
    aliases: tuple[str, ...] = ()

    def model(self, models: str) -> str:
        """The usual control model for a family, by `Family.control_models`; empty where there is none."""
        return {"sd1": self.sd1, "sd2": self.sd2, "xl": self.xl}.get(models, "")


def _v11(name: str) -> str:
    return f"lllyasviel/control_v11{name}"


def _sd21(name: str) -> str:
    return f"thibaud/controlnet-sd21-{name}-diffusers"


KINDS: dict[str, Kind] = {
    "canny": Kind(
        what="edges",
        draw=maps.canny,
        low=100,
        high=200,
        sd1=_v11("p_sd15_canny"),
        sd2=_sd21("canny"),
        xl="diffusers/controlnet-canny-sdxl-1.0",
    ),
    "depth": Kind(
        what="distance",
        sd1=_v11("f1p_sd15_depth"),
        sd2=_sd21("depth"),
        xl="diffusers/controlnet-depth-sdxl-1.0",
    ),
    "hed": Kind(what="soft edges", sd1=_v11("p_sd15_softedge"), sd2=_sd21("hed"), aliases=("softedge", "soft edge")),
    "mlsd": Kind(what="straight lines", low=0.1, high=0.1, sd1=_v11("p_sd15_mlsd"), aliases=("lines",)),
    "normal": Kind(what="directions of surfaces", sd1=_v11("p_sd15_normalbae"), sd2=_sd21("normalbae")),
    "openpose": Kind(
        what="poses of people", sd1=_v11("p_sd15_openpose"), sd2=_sd21("openpose"), aliases=("pose", "dwpose")
    ),
    "scribble": Kind(
        what="rough lines", draw=maps.scribble, low=32, sd1=_v11("p_sd15_scribble"), sd2=_sd21("scribble")
    ),
    "drawing": Kind(
        what="lines of a drawing on light paper",
        draw=maps.drawing,
        low=127,
        sd1=_v11("p_sd15_scribble"),
        sd2=_sd21("scribble"),
    ),
    "segmentation": Kind(what="classes of things", sd1=_v11("p_sd15_seg"), sd2=_sd21("ade20k"), aliases=("seg",)),
    "tile": Kind(
        what="the image itself, to add details", draw=maps.tile, low=1, scaled=False, sd1=_v11("f1e_sd15_tile")
    ),
    "invert": Kind(what="the negative, of line art", draw=maps.invert, scaled=False, sd1=_v11("p_sd15_lineart")),
    "threshold": Kind(what="light and dark", draw=maps.threshold, low=127, sd1=_v11("p_sd15_scribble")),
    "blur": Kind(what="the image, blurred", draw=maps.blur, low=9, sd1=_v11("f1e_sd15_tile")),
    "recolor": Kind(
        what="lightness, to add colors", draw=maps.recolor, low=1, scaled=False, aliases=("recolour", "luminance")
    ),
}


@dataclass(frozen=True, slots=True)
class MapMaker:
    """Draws maps of one kind; what it needs was found when it was made."""

    kind: str
    folder: Path | None  # of the model that draws, where the kind needs one
    low: float = -1.0
    high: float = -1.0

    @classmethod
    def find(
        cls, kind: str, workspace: Workspace, detector: str = "", low: float = -1.0, high: float = -1.0
    ) -> MapMaker:
        """A maker for a kind, by the model `detector` or the usual one; thresholds of -1 are the usual ones.

        PrepError says what to install or to download.
        """
        own = KINDS[kind].draw is not None
        return cls(kind, None if own else detectors.check_detector(kind, detector, workspace), low, high)

    @property
    def thresholds(self) -> tuple[float, float]:
        """Those that count: the usual ones where none are given."""
        kind = KINDS[self.kind]
        return self.low if self.low >= 0 else kind.low, self.high if self.high >= 0 else kind.high

    def make(self, image: Pixels, resolution: int) -> Pixels:
        """The map (h, w, 3) of an image (H, W, 3), both uint8 RGB, its shorter side `resolution` pixels."""
        kind, (low, high) = KINDS[self.kind], self.thresholds
        draw, folder = kind.draw, self.folder
        if draw is not None and not kind.scaled:
            return draw(image, low, high)
        if draw is not None:
            return at_resolution(image, resolution, lambda padded: draw(padded, low, high))
        assert folder is not None
        return at_resolution(image, resolution, lambda padded: detectors.draw(self.kind, padded, folder, (low, high)))
