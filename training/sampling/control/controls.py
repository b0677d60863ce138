"""From the option --control to loaded controls: everything is found and checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from pipeline.workspace import Workspace
from training.sampling.control.control_model import ControlFiles, find_control, load_control
from training.sampling.control.controlled_unet import Control
from training.sampling.control.fitting import pixel_perfect
from training.sampling.control.kinds import KINDS, MapMaker
from training.sampling.control.request import ControlRequest, parse_control
from training.sampling.read_image import read_image

if TYPE_CHECKING:
    from training.models.family import Family
    from training.sampling.control.fitting import Pixels

MOST_CONTROLS = 10  # of one image


@dataclass(frozen=True, slots=True)
class FoundControl:
    """A control whose image, control model and detector were found."""

    request: ControlRequest
    files: ControlFiles
    image: Pixels
    maker: MapMaker | None  # None: the image is a map already

    def draw(self, height: int, width: int) -> Pixels:
        """The map for an image of this size, in a size of its own."""
        if self.maker is None:
            return self.image
        size = (self.image.shape[0], self.image.shape[1])
        perfect = pixel_perfect(size, (height, width), self.request.resize)
        return self.maker.make(self.image, self.request.resolution or perfect)

    def infotext(self) -> str:
        """The unit as WebUI's ControlNet extension writes it into an image's parameters."""
        low, high = self.maker.thresholds if self.maker else (-1.0, -1.0)
        return self.request.infotext(f"{Path(self.files.name).stem} [{self.files.sha256()[:8]}]", low, high)


def find_controls(texts: Iterable[str], workspace: Workspace, family: Family) -> list[FoundControl]:
    """What some options --control mean for a base model's family; PrepError for the first that cannot be used."""
    requests = [parse_control(text) for text in texts]
    if requests and family.denoiser != "unet":
        raise PrepError(f"{family.title} cannot be controlled by images.", "Leave --control out, or use another base.")
    if len(requests) > MOST_CONTROLS:
        raise PrepError(f"{len(requests)} controls are too many.", f"Use at most {MOST_CONTROLS}.")
    return [_find(request, workspace, family) for request in requests]


def load_controls(found: list[FoundControl], unet: Any, height: int, width: int) -> list[Control]:
    """The controls for images of this size in pixels, with their models where the U-Net is and in its dtype."""
    weight = next(unet.parameters())
    return [
        Control(one.request, load_control(one.files, unet).to(weight.device, weight.dtype), one.draw(height, width))
        for one in found
    ]


def _find(request: ControlRequest, workspace: Workspace, family: Family) -> FoundControl:
    image = read_image(workspace.resolve(request.image))
    name = request.model or KINDS[request.kind].model(family.control_models)
    if not name:
        raise PrepError(
            f"prep knows no usual control model of the kind {request.kind} for {family.title}.",
            f"Name one: --control {request.kind}={request.image},model=FILE",
        )
    maker = MapMaker.find(request.kind, workspace, low=request.low, high=request.high) if request.map else None
    return FoundControl(request, find_control(name, workspace), image, maker)
