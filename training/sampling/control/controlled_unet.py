"""A U-Net whose predictions follow control maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from training.sampling.control.fitting import fit

if TYPE_CHECKING:
    import numpy as np
    import torch

    from training.sampling.control.request import ControlRequest

    Residuals = list[torch.Tensor]  # of the levels of a U-Net from the first down, then of its middle

_SOFT = 0.825  # the factor from each of the 13 residuals of Stable Diffusion 1.x to the one before


@dataclass
class Control:
    """A loaded control model with its map."""

    request: ControlRequest
    model: Any  # ControlNetModel, on the device and in the dtype of the U-Net
    image: np.ndarray  # the map, (H, W, 3) uint8, RGB
    _maps: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)

    def map(self, like: torch.Tensor) -> torch.Tensor:
        """The map (1, 3, H, W) in 0 to 1 for noisy latents (B, C, h, w), in their dtype and on their device."""
        import torch

        factor = 2 ** (len(self.model.config.conditioning_embedding_out_channels) - 1)
        size = (like.shape[2] * factor, like.shape[3] * factor)
        if size not in self._maps:
            fitted = torch.from_numpy(fit(self.image, *size, self.request.resize).copy())
            self._maps = {size: (fitted.permute(2, 0, 1)[None].float() / 255).to(like.device, like.dtype)}
        return self._maps[size]

    def acts(self, share: float) -> bool:
        """Whether it acts after this share of the steps. WebUI's extension counts both ends."""
        return self.request.start <= share <= self.request.end


class ControlledUnet:
    """Calls a U-Net with the sum of what control models add to its levels; in its place in `Family.forward`.

    Before each call `at` says where in the sampling it is.
    """

    def __init__(self, unet: Any, controls: list[Control]) -> None:
        self.unet, self.controls = unet, controls
        self._share, self._conditional, self._soft = 0.0, [True], False

    def parameters(self) -> Iterator[Any]:
        """The U-Net's."""
        parameters: Iterator[Any] = self.unet.parameters()
        return parameters

    def at(self, share: float, conditional: list[bool], *, hires: bool = False) -> None:
        """Set the share of the steps that are done, and for each image of the next batch whether it has the prompt.

        In the second pass of hires fix all residuals are weighted as in the mode prompt, as in WebUI's extension.
        """
        self._share, self._conditional, self._soft = share, conditional, hires

    def __call__(self, noisy: torch.Tensor, timesteps: torch.Tensor, **inputs: Any) -> Any:
        """The U-Net's output; `inputs` as those of diffusers' U-Net."""
        total: Residuals = []
        for control in self.controls:
            if control.acts(self._share) and control.request.weight:
                found = self._residuals(control, noisy, timesteps, inputs)
                total = [one + other for one, other in zip(total, found, strict=True)] if total else found
        if not total:
            return self.unet(noisy, timesteps, **inputs)
        return self.unet(
            noisy,
            timesteps,
            down_block_additional_residuals=tuple(total[:-1]),
            mid_block_additional_residual=total[-1],
            **inputs,
        )

    def _residuals(
        self, control: Control, noisy: torch.Tensor, timesteps: torch.Tensor, inputs: dict[str, Any]
    ) -> Residuals:
        hint = control.map(noisy).expand(len(noisy), -1, -1, -1)
        down, middle = control.model(noisy, timesteps, controlnet_cond=hint, **(inputs | {"return_dict": False}))
        request = control.request
        factors = residual_factors(len(down) + 1, soft=self._soft or request.mode != "balanced")
        rows = noisy.new_tensor(
            [request.weight * (one or request.mode != "control") for one in self._conditional]
        ).view(-1, 1, 1, 1)
        return [rows * factor * one for factor, one in zip(factors, (*down, middle), strict=True)]


def residual_factors(count: int, *, soft: bool) -> list[float]:
    """Weights of residuals from the first level down to the middle: 1, or rising to 1 where the prompt counts more.

    WebUI's extension gives the middle 1 for Stable Diffusion 1.x, with 13 residuals, and 0.56 for XL, with 10.
    """
    return [_SOFT ** (12 - place) if soft else 1.0 for place in range(count)]
