"""CLIP scores of sample images: similarity to their prompts and to their subjects' training images."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from pipeline.models.store import find_model

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from pipeline.workspace import Workspace

log = logging.getLogger(__name__)

MODEL = "clip-vit-b-32"  # small, and the usual model for such scores
_FILES = ("open_clip_config.json", "open_clip_model.safetensors")


@functools.cache
def _warn_once() -> None:
    log.warning("Samples get no CLIP scores; to get them: prep models pull %s", MODEL)


@dataclass(frozen=True, slots=True)
class ClipScorer:
    """A CLIP model on the CPU: images and texts to unit vectors of one space."""

    net: Any
    transform: Any
    tokenize: Any

    @staticmethod
    def check(model: str, workspace: Workspace) -> None:
        """PrepError if a model is named that is not installed; loads nothing."""
        if model:
            find_model(model, workspace, _FILES)

    @classmethod
    def find(cls, model: str, workspace: Workspace) -> ClipScorer | None:
        """The named model; without a name the default one, or None, with one warning, if that is not installed."""
        import open_clip

        try:
            folder = find_model(model or MODEL, workspace, _FILES).folder
        except PrepError:
            if model:
                raise
            _warn_once()
            return None
        net, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        return cls(net.eval(), transform, open_clip.get_tokenizer(f"local-dir:{folder}"))

    def image(self, image: Image) -> torch.Tensor:
        """The unit vector of an image, (size,)."""
        import torch

        with torch.inference_mode():
            vector: torch.Tensor = self.net.encode_image(self.transform(image)[None], normalize=True)[0]
            return vector

    def text(self, text: str) -> torch.Tensor:
        """The unit vector of a text, (size,), cut off at the model's context length."""
        import torch

        with torch.inference_mode():
            vector: torch.Tensor = self.net.encode_text(self.tokenize([text]), normalize=True)[0]
            return vector
