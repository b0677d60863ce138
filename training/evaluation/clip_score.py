"""How well sample images fit their prompts and their subjects, as a CLIP model sees it."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from pipeline.models.store import find_model, install_hint, resolve_repo_id

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from pipeline.workspace import Workspace

log = logging.getLogger(__name__)

MODEL = "clip-vit-b-32"  # small, and widely used for such scores
_FILES = ("open_clip_config.json", "open_clip_model.safetensors")


@functools.cache
def _say_once() -> None:
    log.warning(
        "samples.parquet has no CLIP scores: no model for them is here. %s", install_hint(resolve_repo_id(MODEL))
    )


@dataclass(frozen=True, slots=True)
class ClipScorer:
    """A CLIP model on the CPU: images and texts to unit vectors of one space."""

    net: Any
    transform: Any
    tokenize: Any

    @staticmethod
    def check(model: str, workspace: Workspace) -> None:
        """PrepError when a model is named that is not here; opens nothing."""
        if model:
            find_model(model, workspace, _FILES)

    @classmethod
    def find(cls, model: str, workspace: Workspace) -> ClipScorer | None:
        """The model that is named; without a name the usual one, or None, said once, where it is not there."""
        import open_clip

        try:
            folder = find_model(model or MODEL, workspace, _FILES).folder
        except PrepError:
            if model:
                raise
            _say_once()
            return None
        net, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        return cls(net.eval(), transform, open_clip.get_tokenizer(f"local-dir:{folder}"))

    def image(self, image: Image) -> torch.Tensor:
        """The unit vector of an image, (size,)."""
        import torch

        with torch.inference_mode():
            found: torch.Tensor = self.net.encode_image(self.transform(image)[None], normalize=True)[0]
            return found

    def text(self, text: str) -> torch.Tensor:
        """The unit vector of a text, (size,); what is beyond the model's context is cut off."""
        import torch

        with torch.inference_mode():
            found: torch.Tensor = self.net.encode_text(self.tokenize([text]), normalize=True)[0]
            return found
