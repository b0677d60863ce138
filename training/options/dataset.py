"""Options of prep train: dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class DatasetOptions(Options):
    """Which images are trained on, and how often each is seen."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Dataset"

    data: str = option(
        "",
        "Train on this folder of kohya's layout, the parent of folders such as '10_smith man', instead of the "
        "workspace's own data set.",
        metavar="DIR",
        cache_key=False,  # its content is
    )
    reg_data: str = option(
        "", "Folder of regularization images for --data, the parent of '1_man'.", metavar="DIR", cache_key=False
    )
    prior_loss_weight: float = option(1.0, "Weight of regularization images; 0 leaves them out.", low=0)
    incomplete_batch: Literal["keep", "fill", "drop"] = option(
        "keep",
        "What becomes of the images of a size that do not fill a batch: a smaller batch, one filled up by repeating "
        "some, or none, other ones in every epoch.",
    )
    random_flip: bool = option(False, "Mirror half of the draws.")
    masks: str = option(
        "",
        "What of an image counts: 'alpha' for the transparency of its source, or a folder of masks with the same "
        "names, white where it counts. Regularization images count whole.",
        metavar="DIR",
        cache_key=False,  # what they hold is
    )
    unmasked_weight: float = option(0.0, "What the masked-out part still counts, 0 to 1.", low=0, high=1)

    def check(self) -> None:
        if self.reg_data and not self.data:
            raise PrepError("train: reg_data was given without data.", "Give both, or use the workspace's own set.")
        if self.unmasked_weight and not self.masks:
            raise PrepError("train: unmasked_weight was given without masks.", "Add: --masks alpha")
