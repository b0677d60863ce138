"""Classifier-free guidance: the denoiser's prediction, moved from the negative prompt towards the parts of a prompt."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.sampling.control.controlled_unet import ControlledUnet

if TYPE_CHECKING:
    import torch

    from training.models.family import Condition, Family
    from training.sampling.text_conditioning import GuidedCondition, PromptConditioning


@dataclass(frozen=True, slots=True)
class _Row:
    """A condition that the denoiser gets together with the latents of an image."""

    image: int  # in the batch
    factor: float | None  # of the prediction in the guided one; None: of the negative prompt
    condition: Condition


@dataclass(frozen=True, slots=True)
class Course:
    """Which pass of sampling this is, and how often the denoiser is called in it."""

    calls: int = 1
    hires: bool = False


@dataclass(frozen=True)
class GuidedNetwork:
    """The denoiser as samplers call it: u + scale * sum of weight * (c - u) (https://arxiv.org/abs/2207.12598).

    The sum is over the parts that AND joins (https://arxiv.org/abs/2206.01714); u is the prediction of the negative
    prompt, which is left out where its factor is 0: at a scale of 1.
    """

    family: Family
    model: Any
    prompts: list[PromptConditioning]  # of each image
    scale: float
    pixels: tuple[int, int]  # width and height, on which Stable Diffusion XL is conditioned
    report: Callable[[], None]  # called after each evaluation
    course: Course = Course()

    def __call__(self, x: torch.Tensor, timesteps: torch.Tensor, evaluation: int) -> torch.Tensor:
        """The guided prediction (B, C, h, w), float32, for latents scaled as the denoiser takes them."""
        import torch

        rows = [row for image, prompt in enumerate(self.prompts) for row in self._rows(image, prompt.at(evaluation))]
        predicted: dict[int, torch.Tensor] = {}
        with torch.inference_mode():
            for group in _of_equal_length(rows):
                if isinstance(self.model, ControlledUnet):
                    conditional = [row.factor is not None for row in group]
                    self.model.at(evaluation / self.course.calls, conditional, hires=self.course.hires)
                predictions = self._predict(group, x, timesteps).float()
                predicted |= {id(row): prediction for row, prediction in zip(group, predictions, strict=True)}
            images = [[row for row in rows if row.image == image] for image in range(len(self.prompts))]
            guided = torch.stack([self._combine(own, predicted) for own in images])
        self.report()
        return guided

    def _rows(self, image: int, condition: GuidedCondition) -> list[_Row]:
        parts = [_Row(image, self.scale * weight, part) for weight, part in condition.parts]
        if math.isclose(math.fsum(part.factor or 0.0 for part in parts), 1):
            return parts
        return [*parts, _Row(image, None, condition.negative)]

    def _combine(self, rows: list[_Row], predicted: dict[int, torch.Tensor]) -> torch.Tensor:
        negative = next((predicted[id(row)] for row in rows if row.factor is None), None)
        result = predicted[id(rows[0])] * 0 if negative is None else negative
        for row in rows:
            if row.factor is not None:
                change = predicted[id(row)] if negative is None else predicted[id(row)] - negative
                result = result + change * row.factor
        return result

    def _predict(self, rows: list[_Row], x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        import torch

        images = torch.tensor([row.image for row in rows], device=x.device)
        names = rows[0].condition
        condition = {name: torch.cat([row.condition[name] for row in rows]).to(x.device) for name in names}
        width, height = self.pixels
        size = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=x.device)
        prediction: torch.Tensor = self.family.forward(
            self.model, x[images], timesteps[images], condition, size.expand(len(rows), -1)
        )
        return prediction


def _of_equal_length(rows: list[_Row]) -> list[list[_Row]]:
    """The rows whose texts have equal shapes together: others cannot be one batch."""
    groups: dict[tuple[int, ...], list[_Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.condition["text"].shape), []).append(row)
    return list(groups.values())
