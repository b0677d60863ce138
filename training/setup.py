"""From base model, options and pictures to the job that the loop trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from training.data.captions import plain_prompt, prompt
from training.data.conditioning import tell
from training.data.latent_cache import Latents, View
from training.data.masks import Masks, tensor
from training.data.sampler import Draw, mirrored
from training.methods.compatibility import check_adapters
from training.methods.default_lr import with_rate
from training.methods.method import ADAPTERS, Materials
from training.methods.table import METHODS, RATES
from training.models.validate import factor_of
from training.performance.hardware import fit_device
from training.trainer import Job

if TYPE_CHECKING:
    import torch

    from pipeline.stage import Report
    from pipeline.workspace import Workspace
    from training.data.dataset import Sample
    from training.methods.method import Trainee
    from training.models.family import Family, Modules
    from training.models.loader import Checkpoint
    from training.train import Train


@dataclass(frozen=True)
class Plan:
    """What a run is made of."""

    config: Train
    family: Family
    checkpoint: Checkpoint
    samples: list[Sample]
    held: list[Sample] = field(default_factory=list)  # what is only measured

    @property
    def all(self) -> list[Sample]:
        return [*self.samples, *self.held]


@dataclass(frozen=True)
class Run:
    """A run that is ready to train, and what it takes to publish it."""

    plan: Plan
    job: Job
    trainee: Trainee
    modules: dict[str, Any]  # the denoiser, and the text encoders where they learn, by part
    tokenizers: Modules  # which read what the method has put into prompts
    too_long: list[str]  # ids of the records whose captions' ends are cut off


def assemble(plan: Plan, workspace: Workspace, report: Report) -> Run:
    """Load the base, cache what can be cached, put in what learns: models come one after another, the largest last."""
    family, checkpoint = plan.family, plan.checkpoint
    config = with_rate(plan.config, checkpoint, family)
    plan = replace(plan, config=config)
    former, rates = config.former(workspace), _rates(config, family)
    if config.method in ADAPTERS:
        check_adapters(config, family, checkpoint, list(rates), former)
    device = fit_device(plan)
    latent = _latents(plan, device, workspace, report)
    mask = _masks(plan, workspace, report)
    tokenizers = checkpoint.tokenizers()
    told = tell(plan, tokenizers, device, (workspace, report), not rates.keys() <= {family.denoiser})
    dtype = _width(config, device)
    modules = told.learning | {family.denoiser: checkpoint.load(family.denoiser).to(device, dtype)}
    learning = {part: modules[part] for part in rates}
    trainee = METHODS[config.method](
        Materials(config, family, checkpoint, learning, tokenizers, rates, plan.samples, dtype, former)
    )
    job = Job(
        config=config,
        family=family,
        objective=family.objective(checkpoint, config).to(device),
        denoiser=modules[family.denoiser],
        samples=plan.samples,
        latent=latent,
        mask=mask,
        prompt=lambda draw: prompt(draw, config, config.seed),
        condition=told.ask,
        groups=trainee.groups(),
        device=device,
        live_text=bool(told.learning),
        spare=told.spare,
    )
    cut = [s.id for s in plan.samples if family.too_long(tokenizers, plain_prompt(s, config), config.text)]
    return Run(plan, job, trainee, modules, tokenizers, cut)


def _rates(config: Train, family: Family) -> dict[str, float]:
    """The learning rate of each part that learns."""
    if own := RATES.get(config.method):
        return own(config, family)
    rates = config.rates() | {family.denoiser: config.learning_rate}
    return {part: rates[part] for part in family.targets if rates.get(part)}


def _width(config: Train, device: torch.device) -> torch.dtype:
    """The number format in which the denoiser is held; dreambooth rounds only what it computes."""
    import torch

    return torch.bfloat16 if config.half(device) and config.method != "dreambooth" else torch.float32


def _latents(
    plan: Plan, device: torch.device, workspace: Workspace, report: Report
) -> Callable[[Draw], tuple[torch.Tensor, torch.Tensor]]:
    """A function from a draw to its latent's distribution; the VAE is gone again when it is there."""
    config, checkpoint = plan.config, plan.checkpoint
    latents = Latents(workspace, plan.family, checkpoint.base.vae, factor_of(checkpoint))
    read, normalise = latents.reader(), plan.family.normaliser(checkpoint)
    views = [View(sample) for sample in plan.all]
    views += [View(sample, True) for sample in plan.samples if config.flip]
    latents.prepare(views, lambda: checkpoint.load("vae").to(device), report)
    return lambda draw: normalise(read(View(draw.sample, _turned(config, draw))))


def _turned(config: Train, draw: Draw) -> bool:
    return config.flip and not draw.plain and mirrored(draw, config.seed)


def _masks(plan: Plan, workspace: Workspace, report: Report) -> Callable[[Draw], torch.Tensor | None]:
    """A function from a draw to its mask; it mirrors with the picture."""
    config = plan.config
    if not config.masks:
        return lambda draw: None
    found = Masks(config.masks, workspace, factor_of(plan.checkpoint)).read(plan.all, report)

    def mask(draw: Draw) -> torch.Tensor | None:
        own = found.get(draw.sample.id)
        return None if own is None else tensor(own, config.mask_floor, _turned(config, draw))

    return mask
