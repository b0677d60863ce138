"""Options of prep train: dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class DatasetOptions(Options):
    """Which images are trained on, and how much of each counts."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Dataset"

    data: str = option(
        "",
        "Train on this folder in kohya's layout, the parent of folders such as '10_smith man', instead of the "
        "workspace's dataset.",
        metavar="DIR",
        cache_key=False,  # its content is part of the key
    )
    reg_data: str = option(
        "", "Regularization images for --data: the parent of folders such as '1_man'.", metavar="DIR", cache_key=False
    )
    resolution: int = option(
        0,
        "Crop the images of --data to aspect buckets of this resolution as they are read, as prep crop does; 0: train "
        "on them as they are. 512 for SD 1.5, 1024 for SDXL and later.",
        low=0,
        high=8192,
        metavar="N",
        cache_key=False,  # the crops are part of the dataset's digest
    )
    prior_loss_weight: float = option(1.0, "Loss weight of regularization images; 0 leaves them out.", low=0)
    incomplete_batch: Literal["keep", "fill", "drop"] = option(
        "keep",
        "The last batch of an image size in an epoch, if it is not full: keep it smaller, fill it with repeated "
        "images, or drop it (other images in every epoch).",
    )
    random_flip: bool = option(False, "Flip images horizontally with a probability of 0.5.")
    masks: str = option(
        "",
        "Masked loss: 'alpha' for the transparency of the source images, or a folder of masks with the same file "
        "names, white where the image counts. NAME-masklabel.png and NAME_mask.png are masks of NAME, also beside the "
        "images. Regularization images are not masked.",
        metavar="DIR",
        cache_key=False,  # the masks' content is part of the key
    )
    unmasked_weight: float = option(0.0, "Loss weight of the masked-out part, 0 to 1.", low=0, high=1)

    def check(self) -> None:
        if self.reg_data and not self.data:
            raise PrepError("train: reg_data was given without data.", "Give both, or use the workspace's dataset.")
        if self.resolution and not self.data:
            raise PrepError(
                "train: resolution was given without data.",
                f"The workspace's images have the resolution of prep crop: prep crop --resolution {self.resolution}",
            )
        if 0 < self.resolution < 64:
            raise PrepError(f"train: resolution is {self.resolution}.", "It must be 64 or more: --resolution 512")
        if self.unmasked_weight and not self.masks:
            raise PrepError("train: unmasked_weight was given without masks.", "Add: --masks alpha")
