"""Makes images: prompts are encoded, noise is denoised, latents are decoded, with one part in memory at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.adaptive_batches import release_memory
from pipeline.errors import PrepError
from training.models.validate import native_resolution, vae_scale_factor
from training.sampling.autoencoder import Autoencoder
from training.sampling.control.controls import FoundControl, find_controls, load_controls
from training.sampling.image_plan import ImagePlan, SampledModel, in_batches, plan_image, remarks
from training.sampling.init_image import init_latents
from training.sampling.named_networks import NamedNetworks
from training.sampling.noise_levels import noise_levels
from training.sampling.sampling_pass import BatchSampler
from training.sampling.text_conditioning import CaptionEncoder, PromptConditioning, PromptEncoder, PromptSettings
from training.sampling.upscalers import LATENT_MODES, upscale_image, upscale_latents

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from pipeline.stage import ProgressFn
    from training.models.family import Family, Modules
    from training.models.loader import BaseModel
    from training.objective import Objective
    from training.sampling.control.controlled_unet import Control
    from training.sampling.embeddings import EmbeddingLibrary
    from training.sampling.parts_on_demand import ImageParts
    from training.sampling.prompt.networks import NetworkTag
    from training.sampling.settings import ImageSettings

log = logging.getLogger(__name__)

_ROUND = 60.0  # seconds of denoising after which the images so far are decoded, where the parts change places


@dataclass(frozen=True)
class _Batch:
    """Images that are denoised together: they differ in prompts and seeds."""

    plans: list[ImagePlan]
    prompts: tuple[list[PromptConditioning], ...]  # of each pass: those of the images
    latents: torch.Tensor | None = None  # (B, C, h, w), once there are any

    @property
    def settings(self) -> ImageSettings:
        return self.plans[0].settings

    def with_latents(self, latents: torch.Tensor) -> _Batch:
        return _Batch(self.plans, self.prompts, latents)


@dataclass
class _Controls:
    """The controls of batches that follow each other, which stay loaded while they are the same."""

    key: tuple[object, ...] = ()
    loaded: list[Control] = field(default_factory=list)

    def load(self, found: list[FoundControl], unet: Any, height: int, width: int) -> list[Control]:
        key = (height, width, *map(id, found))
        if key != self.key:
            self.loaded = []  # before the next are loaded
            self.key, self.loaded = key, load_controls(found, unet, height, width)
        return self.loaded


@dataclass
class ImageGenerator:
    """Makes images with a base model. Equal settings give equal images, whatever else is in the job.

    Only rounding may depend on the batch size: single values of pixels may then differ by 1.
    """

    checkpoint: BaseModel
    parts: ImageParts
    tokenizers: Modules
    model: SampledModel
    networks: NamedNetworks
    embeddings: EmbeddingLibrary | None = None  # that prompts may name
    controls: dict[tuple[str, ...], list[FoundControl]] = field(default_factory=dict)  # by options --control
    tiled: bool = False  # whether the VAE works in tiles: set when memory is short
    most: int = 1 << 30  # images at once: lowered when memory is short

    @classmethod
    def build(
        cls, checkpoint: BaseModel, family: Family, parts: ImageParts, tokenizers: Modules, objective: Objective
    ) -> ImageGenerator:
        """A generator that finds no networks; `objective` is the one that the denoiser was trained with."""
        side = native_resolution(checkpoint, family)
        model = SampledModel(family, noise_levels(objective), vae_scale_factor(checkpoint), side)
        return cls(checkpoint, parts, tokenizers, model, NamedNetworks((), family, checkpoint))

    @property
    def family(self) -> Family:
        return self.model.family

    def plan(self, requests: list[ImageSettings]) -> list[ImagePlan]:
        """The plans of images; PrepError for settings or networks that do not fit the base model."""
        plans = [plan_image(request, self.model) for request in requests]
        for tags in dict.fromkeys(one.networks for plan in plans for one in plan.passes):
            self.networks.open(tags)
        for texts in dict.fromkeys(plan.settings.control for plan in plans):
            self.controls[texts] = find_controls(texts, self.model.home, self.family)
        for remark in dict.fromkeys(text for plan in plans for text in remarks(plan, self.family)):
            log.warning("%s", remark)
        return plans

    def generate(self, plans: list[ImagePlan], batch_size: int, report: ProgressFn) -> Iterator[Image]:
        """The images in order. `report` gets the calls of the denoiser: those done, and their total.

        After Ctrl-C the images that are denoised are still yielded, then KeyboardInterrupt is raised.
        """
        waiting = self._encode(list(in_batches(plans, batch_size)))
        total, done = sum(batch.plans[0].calls for batch in waiting), 0

        def count() -> None:
            nonlocal done
            done += 1
            report(min(done, total), total)

        while waiting:
            finished: list[_Batch] = []
            try:
                self._denoise_round(waiting, finished, count)
            except KeyboardInterrupt:
                yield from self._decode(finished)
                raise
            yield from self._decode(finished)
        self.parts.release()

    def _encode(self, batches: list[list[ImagePlan]]) -> list[_Batch]:
        """The batches with their prompts; equal prompts are encoded once."""
        modules = self.parts.use(*self.checkpoint.encoders())
        encoders: dict[tuple[PromptSettings, tuple[NetworkTag, ...]], PromptEncoder | CaptionEncoder] = {}
        encoded: list[_Batch] = []
        for plans in batches:
            sampling, prompts = plans[0].settings.sampling, []
            for k, shared in enumerate(plans[0].passes):
                key = (PromptSettings(sampling.clip_skip, sampling.emphasis), shared.networks)
                if key not in encoders:
                    encoders[key] = self._encoder(modules, key[0])
                with self.networks.applied(modules, shared.networks):
                    passes = [plan.passes[k] for plan in plans]
                    prompts.append([encoders[key].encode(p.prompt, p.negative, p.evaluations) for p in passes])
            encoded.append(_Batch(plans, tuple(prompts)))
        return encoded

    def _encoder(self, modules: Modules, settings: PromptSettings) -> PromptEncoder | CaptionEncoder:
        if self.model.captions:
            return CaptionEncoder(self.family, self.tokenizers, modules, self.model.captions)
        return PromptEncoder(self.family, self.tokenizers, modules, settings, self.embeddings)

    def _denoise_round(self, waiting: list[_Batch], finished: list[_Batch], count: Callable[[], None]) -> None:
        """Move batches from `waiting` to `finished`: as many as are worth changing parts for, at least one.

        No part is named here, so that each can leave memory when the next is used.
        """
        inits = self._initial_latents(waiting)
        small = self._first_passes(waiting, finished, inits, count)
        if small:
            self._second_passes([self._enlarge(batch) for batch in small], finished, count)

    def _initial_latents(self, batches: list[_Batch]) -> list[torch.Tensor | None]:
        """The latents (1, C, h, w) that image to image begins with, of each batch."""
        if not any(batch.settings.img2img.init_image for batch in batches):
            return [None] * len(batches)
        autoencoder = self._autoencoder()
        return [init_latents(batch.settings, autoencoder, self.model.home) for batch in batches]

    def _first_passes(
        self,
        waiting: list[_Batch],
        finished: list[_Batch],
        inits: list[torch.Tensor | None],
        count: Callable[[], None],
    ) -> list[_Batch]:
        """Move batches from `waiting` to `finished`, or to the result where hires fix follows."""
        latest = time.monotonic() + (0.0 if self.parts.resident else _ROUND)
        small, known = list[_Batch](), _Controls()
        for init in inits:
            batch = waiting[0]
            sampler = self._sampler(batch, known, count)
            with self._applied(batch, 0):
                latents = self._split(batch, partial(_first_pass, sampler, batch, init))
            (small if batch.settings.hires.active else finished).append(waiting.pop(0).with_latents(latents))
            if time.monotonic() >= latest:
                break
        return small

    def _second_passes(self, enlarged: list[_Batch], finished: list[_Batch], count: Callable[[], None]) -> None:
        known = _Controls()
        for batch in enlarged:
            sampler = self._sampler(batch, known, count)
            with self._applied(batch, 1):
                latents = self._split(batch, partial(_second_pass, sampler, batch))
            finished.append(batch.with_latents(latents))

    def _split(self, batch: _Batch, sample: Callable[[slice], torch.Tensor]) -> torch.Tensor:
        """The latents that `sample` makes of a part of a batch; with too little memory in smaller parts."""
        import torch

        whole = len(batch.plans)
        while True:
            size = min(whole, self.most)
            try:
                return torch.cat([sample(slice(at, at + size)) for at in range(0, whole, size)])
            except torch.OutOfMemoryError:
                pass
            release_memory()
            if size == 1:
                raise PrepError(
                    f"Out of memory for an image of {batch.settings.width} x {batch.settings.height} pixels.",
                    "Generate smaller ones: --size, or --w and --h in a file of prompts.",
                )
            self.most = size // 2
            log.warning("Out of memory for %d images at once: continuing with %d.", size, self.most)

    def _applied(self, batch: _Batch, number: int) -> AbstractContextManager[None]:
        """The networks of a pass, on the denoiser."""
        denoiser = self.parts.use(self.family.denoiser)
        return self.networks.applied(denoiser, batch.plans[0].passes[number].networks)

    def _sampler(self, batch: _Batch, known: _Controls, count: Callable[[], None]) -> BatchSampler:
        denoiser = self.parts.use(self.family.denoiser)[self.family.denoiser]
        controls = partial(known.load, self.controls[batch.settings.control], denoiser)
        return BatchSampler(self.model, denoiser, controls, self.parts.device, count)

    def _autoencoder(self) -> Autoencoder:
        return Autoencoder.build(self.family, self.checkpoint, self.parts.use("vae")["vae"], self.tiled)

    def _enlarge(self, batch: _Batch) -> _Batch:
        """A batch with its latents enlarged for hires fix."""
        aim, hires = batch.plans[0].enlargement, batch.settings.hires
        assert aim and batch.latents is not None
        if hires.hires_upscaler in LATENT_MODES:
            rows, columns = aim.height // self.model.factor, aim.width // self.model.factor
            latents = upscale_latents(batch.latents, hires.hires_upscaler, rows, columns)
        else:
            autoencoder, device = self._autoencoder(), self.parts.device
            images = autoencoder.decode(batch.latents)
            larger = [upscale_image(one, hires.hires_upscaler, aim.width, aim.height, device) for one in images]
            latents = autoencoder.encode(larger)
        return batch.with_latents(aim.trim(latents))

    def _decode(self, batches: list[_Batch]) -> Iterator[Image]:
        """The images of batches, one by one."""
        import torch

        for batch in batches:
            assert batch.latents is not None
            for plan, latent in zip(batch.plans, batch.latents, strict=True):
                if not bool(latent.isfinite().all()):
                    raise PrepError(
                        f"The image of the seed {plan.settings.noise.seed} has values that are no numbers.",
                        "Give --precision fp32 or bf16, or smaller weights of its networks.",
                    )
                try:
                    image = self._autoencoder().decode(latent[None])[0]
                except torch.OutOfMemoryError:
                    if self.tiled:
                        raise
                    log.warning("Out of memory for a whole image: decoding it in tiles.")
                    self.tiled = True
                    release_memory()
                    image = self._autoencoder().decode(latent[None])[0]
                yield image


def _first_pass(sampler: BatchSampler, batch: _Batch, init: torch.Tensor | None, cut: slice) -> torch.Tensor:
    return sampler.first_pass(batch.plans[cut], batch.prompts[0][cut], init)


def _second_pass(sampler: BatchSampler, batch: _Batch, cut: slice) -> torch.Tensor:
    assert batch.latents is not None
    return sampler.second_pass(batch.plans[cut], batch.prompts[1][cut], batch.latents[cut])
