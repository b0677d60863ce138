"""From base model, options and pictures to the job that the loop trains."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.loop import Job
from training.methods.method import ADAPTERS, Materials
from training.methods.suit import check_adapters
from training.methods.table import METHODS, RATES
from training.sets.captions import plain_prompt, prompt
from training.sets.draws import Draw, mirrored
from training.sets.latents import Latents, View
from training.sets.masks import Masks, tensor
from training.sets.texts import Texts
from training.steps.batch_size import check_batch
from training.steps.memory import check_memory, estimate
from training.steps.prefetch import sent

if TYPE_CHECKING:
    import torch

    from pipeline.stage import Report
    from pipeline.workspace import Workspace
    from training.bases.checkpoint import Checkpoint
    from training.families.family import Condition, Family, Modules
    from training.methods.method import Trainee
    from training.sets.samples import Sample
    from training.train import Train

_KEPT = 1024  # prompts whose encoding is remembered where they vary: 0.24 GB of Stable Diffusion 1.x


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
    """Load the base, cache what can be cached, put the adapters in."""
    import torch

    config, family, checkpoint = plan.config, plan.family, plan.checkpoint
    former = config.former(workspace)
    rates = _rates(config, family)
    if config.method in ADAPTERS:
        check_adapters(config, family, checkpoint, list(rates), former)
    device = find_device(config.device)
    config.suit_device(device.type)
    check_batch(config.batch, device.type)
    if device.type == "cuda":
        need = estimate(checkpoint, family, config, plan.all)
        check_memory(need, config, torch.cuda.mem_get_info(device)[0], config.batch or 1)
    half = config.half(device) and config.method != "dreambooth"  # which rounds only what it computes
    dtype = torch.bfloat16 if half else torch.float32
    latents = Latents(workspace, family, checkpoint.base.vae)
    read, normalise = latents.reader(), family.normaliser(checkpoint)
    views = [View(sample) for sample in plan.all]
    views += [View(sample, True) for sample in plan.samples if config.flip]
    latents.prepare(views, lambda: checkpoint.load("vae").to(device), report)
    tokenizers = checkpoint.tokenizers()
    encode, modules = _text(plan, tokenizers, device, workspace, report)
    modules[family.denoiser] = checkpoint.load(family.denoiser).to(device, dtype)
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
        latent=lambda draw: normalise(read(View(draw.sample, _turned(config, draw)))),
        mask=_masks(plan, workspace, report),
        prompt=lambda draw: prompt(draw, config, config.seed),
        condition=lambda prompts: {name: sent(value, device) for name, value in encode(prompts).items()},
        groups=trainee.groups(),
        device=device,
        live_text=any(part in modules for part in family.encoders),
    )
    cut = [s.id for s in plan.samples if family.too_long(tokenizers, plain_prompt(s, config), config.text)]
    return Run(plan, job, trainee, modules, tokenizers, cut)


def _turned(config: Train, draw: Draw) -> bool:
    return config.flip and not draw.plain and mirrored(draw, config.seed)


def _masks(plan: Plan, workspace: Workspace, report: Report) -> Callable[[Draw], torch.Tensor | None]:
    """A function from a draw to its mask; it mirrors with the picture."""
    config = plan.config
    if not config.masks:
        return lambda draw: None
    found = Masks(config.masks, workspace, plan.family.factor).read(plan.all, report)

    def mask(draw: Draw) -> torch.Tensor | None:
        own = found.get(draw.sample.id)
        return None if own is None else tensor(own, config.mask_floor, _turned(config, draw))

    return mask


def find_device(wanted: str) -> torch.device:
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise PrepError("There is no GPU that torch can use.", "Train on the processor: --device cpu")
    return torch.device("cuda" if wanted == "auto" and torch.cuda.is_available() else wanted.replace("auto", "cpu"))


def _rates(config: Train, family: Family) -> dict[str, float]:
    """The learning rate of each part that learns."""
    if own := RATES.get(config.method):
        return own(config, family)
    rates = config.rates() | {family.denoiser: config.learning_rate}
    return {part: rates[part] for part in family.targets if rates.get(part)}


def _text(
    plan: Plan, tokenizers: Modules, device: torch.device, workspace: Workspace, report: Report
) -> tuple[Callable[[list[str]], Condition], dict[str, Any]]:
    """What prompts tell the denoiser, and the encoders where they must stay loaded because they learn.

    Where they do not, every prompt is encoded once: ahead and kept on disk where all are known,
    else as they come.
    """
    config, family, checkpoint = plan.config, plan.family, plan.checkpoint
    formats = {part: config.text_format(part, family, device) for part in checkpoint.encoders()}

    def load() -> dict[str, Any]:
        return {part: checkpoint.load(part, formats[part]).to(device) for part in checkpoint.encoders()}

    def live(modules: dict[str, Any]) -> Callable[[list[str]], Condition]:
        return lambda prompts: family.encode_text(tokenizers, modules, prompts, config.text)

    if not _rates(config, family).keys() <= {family.denoiser}:
        modules = load()
        return live(modules), dict(modules)
    if config.endless:
        return _as_they_come(live(load())), {}
    rounded = "".join(f" {part} in {kind}" for part, kind in formats.items() if kind.itemsize < 4)
    texts = Texts(workspace.cache / "texts", f"{family.name} {checkpoint.base.sha256} {config.text}{rounded}")
    prompts = {plain_prompt(sample, config) for sample in plan.all} | ({""} if config.varied else set())
    texts.prepare(sorted(prompts), lambda: live(load()), report)
    return texts.reader(), {}


def _as_they_come(encode: Callable[[list[str]], Condition]) -> Callable[[list[str]], Condition]:
    """Encode a prompt when it is first asked for, alone, and remember the latest."""
    import torch

    @functools.lru_cache(_KEPT)
    def one(prompt: str) -> Condition:
        with torch.no_grad():
            return {name: value[0].cpu() for name, value in encode([prompt]).items()}

    def look_up(prompts: list[str]) -> Condition:
        rows = [one(prompt) for prompt in prompts]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    return look_up
