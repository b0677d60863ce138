"""What an image's settings mean for a base model: the passes of sampling, and what each of them gets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.workspace import Workspace
from training.sampling.enlarge import Enlargement, enlargement
from training.sampling.prompt.networks import NetworkTag, take_networks
from training.sampling.prompt.remarks import remark_on_negative, remark_on_prompt
from training.sampling.prompt.schedule import Evaluations
from training.sampling.prompt.styles import strip_comments
from training.sampling.samplers.table import SAMPLERS, find_sampler
from training.sampling.sampling_plan import SamplerChoice, SamplingPlan, image_to_image, text_to_image
from training.sampling.schedules import AUTOMATIC, find_schedule
from training.sampling.settings import HiresSettings, ImageSettings
from training.sampling.text_conditioning import shown
from training.sampling.upscalers import find_upscaler

if TYPE_CHECKING:
    from training.models.family import Family, TextSettings
    from training.sampling.noise_levels import NoiseLevels


@dataclass(frozen=True, slots=True)
class SampledModel:
    """What planning needs to know of a base model."""

    family: Family
    levels: NoiseLevels
    factor: int  # pixels per latent pixel, each way
    side: int = 0  # pixels of the square images that it was trained with; 0: unknown
    home: Workspace = field(default_factory=lambda: Workspace(Path.cwd()))  # where files that settings name are
    captions: TextSettings | None = None  # prompts are read as training reads captions; None: as WebUI reads them


@dataclass(frozen=True, slots=True)
class PassPlan:
    """One pass of sampling: text to image, image to image, or the second one of hires fix."""

    prompt: str  # without networks
    negative: str
    networks: tuple[NetworkTag, ...]
    sampling: SamplingPlan
    evaluations: Evaluations

    @property
    def calls(self) -> int:
        """How often the denoiser is called; an estimate for samplers that choose their steps."""
        return self.sampling.steps * self.sampling.sampler.evaluations


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """An image: its settings with nothing left open, and its passes."""

    settings: ImageSettings
    first: PassPlan
    second: PassPlan | None = None  # of hires fix
    enlargement: Enlargement | None = None

    @property
    def calls(self) -> int:
        return self.first.calls + (self.second.calls if self.second else 0)

    @property
    def passes(self) -> tuple[PassPlan, ...]:
        return (self.first, self.second) if self.second else (self.first,)


def plan_image(settings: ImageSettings, model: SampledModel) -> ImagePlan:
    """The plan of an image; PrepError for settings that the model cannot be sampled with."""
    full = _with_titles(settings.resolve(model.family, model.side), model)
    first = _first_pass(full, model)
    if not full.hires.active:
        return ImagePlan(full, first)
    aim = enlargement(full.width, full.height, full.hires, model.factor)
    return ImagePlan(full, first, _second_pass(full, first, model), aim)


def remarks(plan: ImagePlan, family: Family) -> Iterator[str]:
    """Sentences on what of an image's settings has another meaning than it seems, or none."""
    settings = plan.settings
    hires = settings.hires if plan.second else HiresSettings()
    for prompt in filter(None, (settings.prompt, hires.hires_prompt)):
        if text := remark_on_prompt(prompt):
            yield f'In the prompt "{shown(prompt)}": {text}.'
    for prompt in filter(None, (settings.negative, hires.hires_negative)):
        if text := remark_on_negative(prompt):
            yield f'In the negative prompt "{shown(prompt)}": {text}.'
    if settings.sampling.clip_skip > 1 and not family.clip_skips:
        yield f"Clip skip has no effect: {family.title} always uses the same layer."


def in_batches(plans: list[ImagePlan], batch_size: int) -> Iterator[list[ImagePlan]]:
    """The plans in order, in batches of neighbors that differ in prompts and seeds only, of at most `batch_size`."""

    def shared(plan: ImagePlan) -> tuple[object, ...]:
        settings = plan.settings
        hires = replace(settings.hires, hires_prompt="", hires_negative="")
        noise = replace(settings.noise, seed=0, variation_seed=0)
        return replace(settings, prompt="", negative="", noise=noise, hires=hires), *(p.networks for p in plan.passes)

    for _, group in itertools.groupby(plans, shared):
        equal = list(group)
        independent = all(one.sampling.sampler.batches for one in equal[0].passes)
        size = batch_size if independent else 1
        yield from (equal[start : start + size] for start in range(0, len(equal), size))


def _with_titles(settings: ImageSettings, model: SampledModel) -> ImageSettings:
    """The settings with their samplers and schedules by WebUI's titles, and the defaults that depend on the model."""
    sampling, hires = settings.sampling, settings.hires
    usual = "Euler" if model.levels.flow else "DPM++ 2M"
    sampler, schedule = _titles(sampling.sampler or usual, sampling.schedule)
    changed = replace(settings, sampling=replace(sampling, sampler=sampler, schedule=schedule))
    if hires.active:
        hires = replace(hires, hires_upscaler=find_upscaler(hires.hires_upscaler, model.home))
        if hires.hires_sampler or hires.hires_schedule:
            sampler, schedule = _titles(hires.hires_sampler or sampler, hires.hires_schedule or schedule)
            hires = replace(hires, hires_sampler=sampler, hires_schedule=schedule)
    return replace(changed, hires=hires)


def _titles(sampler: str, schedule: str) -> tuple[str, str]:
    """The titles of both; a schedule of its own wins over one in the sampler's name."""
    title, named = find_sampler(sampler)
    own = find_schedule(schedule or AUTOMATIC)
    return title, named if own == AUTOMATIC else own


def _first_pass(settings: ImageSettings, model: SampledModel) -> PassPlan:
    sampling, steps = settings.sampling, settings.sampling.steps
    choice = SamplerChoice(sampling.sampler, model.levels, sampling.schedule, model.family.xl_schedules)
    if settings.img2img.init_image:
        plan = image_to_image(choice, steps, settings.img2img.denoise)
    else:
        plan = text_to_image(choice, steps)
    evaluations = Evaluations(steps * SAMPLERS[sampling.sampler].evaluations)
    return _with_prompts(PassPlan(settings.prompt, settings.negative, (), plan, evaluations), model)


def _second_pass(settings: ImageSettings, first: PassPlan, model: SampledModel) -> PassPlan:
    """The pass over the enlarged image; what it has no setting of its own for is as in the first."""
    hires, sampling = settings.hires, settings.sampling
    sampler, schedule = hires.hires_sampler or sampling.sampler, hires.hires_schedule or sampling.schedule
    steps = hires.hires_steps or sampling.steps
    choice = SamplerChoice(sampler, model.levels, schedule, model.family.xl_schedules)
    plan = image_to_image(choice, steps, hires.hires_denoise, exact=True)
    evaluations = Evaluations(steps * SAMPLERS[sampler].evaluations, first.evaluations.count)
    prompt, negative = hires.hires_prompt or settings.prompt, hires.hires_negative or settings.negative
    return _with_prompts(PassPlan(prompt, negative, (), plan, evaluations), model)


def _with_prompts(plan: PassPlan, model: SampledModel) -> PassPlan:
    """The pass with its prompts as they are encoded; in captions nothing is a comment or a network."""
    if model.captions:
        return plan
    taken = take_networks(strip_comments(plan.prompt))
    return replace(plan, prompt=taken.text, negative=strip_comments(plan.negative), networks=taken.networks)
