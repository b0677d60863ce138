"""Passes of sampling over a batch: from noise, from an image, and from enlarged latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.sampling.control.controlled_unet import ControlledUnet
from training.sampling.guidance import Course, GuidedNetwork
from training.sampling.noise import ImageNoise, NoiseDraws, Seeds
from training.sampling.settings import parse_size

if TYPE_CHECKING:
    import torch

    from training.sampling.control.controlled_unet import Control
    from training.sampling.image_plan import ImagePlan, PassPlan, SampledModel
    from training.sampling.settings import ImageSettings
    from training.sampling.text_conditioning import PromptConditioning


@dataclass(frozen=True)
class BatchSampler:
    """Samples batches of images that differ in prompts and seeds only."""

    model: SampledModel
    denoiser: Any
    controls: Callable[[int, int], list[Control]]  # what controls images of this height and width in pixels
    device: torch.device
    report: Callable[[], None]  # called after each call of the denoiser

    def first_pass(
        self, plans: list[ImagePlan], prompts: list[PromptConditioning], init: torch.Tensor | None
    ) -> torch.Tensor:
        """The latents (B, C, h, w) of the first pass; `init` (1, C, h, w) are those of an image to begin with."""
        first = plans[0]
        width, height = first.settings.width, first.settings.height
        channels = int(self.denoiser.config.in_channels)
        shape = (channels, height // self.model.factor, width // self.model.factor)
        noise = self._noise(plans, shape)
        start = noise.first()
        sampling = first.first.sampling
        x = sampling.start(start) if init is None else sampling.start_from(init.to(start).expand_as(start), start)
        return self._sample(plans, first.first, prompts, x, noise)

    def second_pass(
        self, plans: list[ImagePlan], prompts: list[PromptConditioning], latents: torch.Tensor
    ) -> torch.Tensor:
        """The latents of hires fix, from enlarged ones (B, C, h, w). Its noise is that of the same seeds."""
        second = plans[0].second
        assert second
        noise = self._noise(plans, tuple(latents.shape[1:]))
        start = noise.first()
        return self._sample(plans, second, prompts, second.sampling.start_from(latents.to(start), start), noise)

    def _sample(
        self,
        plans: list[ImagePlan],
        plan: PassPlan,
        prompts: list[PromptConditioning],
        x: torch.Tensor,
        noise: ImageNoise,
    ) -> torch.Tensor:
        import torch

        settings = plans[0].settings
        factor, (_, _, rows, columns) = self.model.factor, x.shape
        controls = self.controls(rows * factor, columns * factor)
        network = GuidedNetwork(
            family=self.model.family,
            model=ControlledUnet(self.denoiser, controls) if controls else self.denoiser,
            course=Course(max(plan.calls, 1), hires=plan is plans[0].second),
            prompts=prompts,
            scale=settings.sampling.cfg_scale,
            pixels=(columns * factor, rows * factor),
            report=self.report,
        )
        eta = None if settings.sampling.eta < 0 else settings.sampling.eta
        with torch.inference_mode():
            return plan.sampling.sample(network, x, noise, eta)

    def _noise(self, plans: list[ImagePlan], shape: tuple[int, ...]) -> ImageNoise:
        settings = plans[0].settings.noise
        resize = parse_size(settings.seed_resize, "--seed-resize") if settings.seed_resize else None
        factor = self.model.factor
        draws = NoiseDraws(
            # What a GPU draws is known on every machine, so that an image does not depend on it.
            source="nv" if settings.rng == "gpu" and self.device.type != "cuda" else settings.rng,
            variation_strength=settings.variation_strength,
            resize_from=(resize[1] // factor, resize[0] // factor) if resize else None,
            seed_delta=settings.ensd,
        )
        seeds = [Seeds(one.settings.noise.seed, max(one.settings.noise.variation_seed, 0)) for one in plans]
        channels, rows, columns = shape
        return ImageNoise((channels, rows, columns), seeds, draws, self.device)


def with_seeds(settings: ImageSettings, count: int) -> list[ImageSettings]:
    """The settings of `count` images of a job, each with its own seeds; random ones are drawn here.

    As in WebUI the seed counts up; where a variation seed is mixed in, that counts up instead.
    """
    from dataclasses import replace

    from training.sampling.noise import image_seeds

    noise = settings.noise
    varied = noise.variation_strength > 0
    first = Seeds(random_seed(noise.seed), random_seed(noise.variation_seed) if varied else 0)
    seeds = image_seeds(first, count, noise.variation_strength)
    mixed = [one.variation if varied else noise.variation_seed for one in seeds]
    return [
        replace(settings, noise=replace(noise, seed=one.seed, variation_seed=variation))
        for one, variation in zip(seeds, mixed, strict=True)
    ]


def random_seed(seed: int) -> int:
    """The seed, or a random one for -1."""
    import secrets

    from training.sampling.noise import LARGEST_SEED

    return secrets.randbelow(LARGEST_SEED) if seed < 0 else seed
