"""What a model family is: everything the loop must not know about a base model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import torch

    from training.checkpoint import Checkpoint
    from training.noise import Noise
    from training.objective import Objective

Condition = dict[
    str, "torch.Tensor"
]  # what the text gives the model; batch first, so that it can be cached and stacked
Moments = tuple["torch.Tensor", "torch.Tensor"]  # mean and standard deviation of latents, each (B, C, h, w)


class Family(Protocol):
    """A kind of base model. Stateless: modules and configurations are handed in."""

    name: ClassVar[str]  # as in ss_base_model_version
    architecture: ClassVar[str]  # as in modelspec.architecture
    token_limit: ClassVar[int]  # of a caption, without start and end
    factor: ClassVar[int]  # pixels per latent, each way
    targets: ClassVar[dict[str, str]]  # part to a pattern that matches the adapted modules' whole paths
    prefixes: ClassVar[dict[str, str]]  # part to the beginning of its keys in the adapter file

    def recognise(self, checkpoint: Checkpoint) -> None:
        """Raise PrepError, saying which family it is, when the model is not of this one."""

    def objective(self, checkpoint: Checkpoint, noise: Noise) -> Objective:
        """The objective the base model was trained with, where the options do not say otherwise."""

    def encode_pictures(self, vae: Any, pixels: torch.Tensor) -> Moments:
        """The latents of pictures (B, 3, H, W) in -1 to 1."""

    def normaliser(self, checkpoint: Checkpoint) -> Callable[[Moments], Moments]:
        """A function that brings latents as the VAE gives them to unit variance."""

    def encode_text(self, tokenizer: Any, encoder: Any, captions: list[str]) -> Condition:
        """What the model is told about each caption."""

    def too_long(self, tokenizer: Any, caption: str) -> bool:
        """Whether the end of the caption is beyond the token limit."""

    def forward(self, model: Any, noisy: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The model's prediction, (B, C, h, w)."""

    def probe(self, part: str, module: Any, tokenizer: Any) -> torch.Tensor:
        """The answer of a part to one small fixed input: tells whether two modules are the same."""
