"""From base model, options and images to the job that the loop trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from training.batch import RunConfig, SampleRef, TrainingJob
from training.data.captions import build_prompt, fixed_prompt, text_settings
from training.data.conditioning import PromptEncoding, build_text_conditioning
from training.data.latent_cache import LatentCache, LatentKey
from training.data.masks import Masks, mask_tensor
from training.data.sampler import is_flipped
from training.methods.default_lr import with_default_lr
from training.methods.method import MethodContext
from training.methods.table import METHODS
from training.models.validate import vae_scale_factor
from training.performance.hardware import check_device
from training.precision import uses_bf16

if TYPE_CHECKING:
    import torch

    from pipeline.stage import ProgressFn
    from pipeline.workspace import Workspace
    from training.methods.method import TrainingMethod
    from training.models.family import Modules
    from training.options.train_options import TrainOptions


@dataclass(frozen=True)
class TrainingRun:
    """A run that is ready to train, and what it takes to publish it."""

    plan: RunConfig
    job: TrainingJob
    method: TrainingMethod
    modules: dict[str, Any]  # the denoiser, and the text encoders where they learn, by part
    tokenizers: Modules  # which read what the method has put into prompts
    too_long: list[str]  # ids of the records whose captions' ends are cut off


def build_job(plan: RunConfig, workspace: Workspace, report: ProgressFn) -> TrainingRun:
    """Load the base model, fill the caches, and prepare what is trained; models are loaded one by one, the largest last."""
    import torch

    family, checkpoint = plan.family, plan.checkpoint
    method = METHODS[plan.config.method.method]
    config = with_default_lr(plan.config, method.default_lr, checkpoint, family)
    plan = replace(plan, config=config)
    init_file, rates = config.method.init_file(workspace), method.learning_rates(config, family)
    method.check_base(plan, list(rates), init_file)
    device = check_device(plan)
    latent = _latents(plan, device, workspace, report)
    mask = _masks(plan, workspace, report)
    tokenizers = checkpoint.tokenizers()
    told = build_text_conditioning(
        PromptEncoding(plan, tokenizers, device), not rates.keys() <= {family.denoiser}, workspace, report
    )
    dtype = torch.bfloat16 if uses_bf16(config.model, device) and not method.keeps_fp32 else torch.float32
    modules = told.trained_encoders | {family.denoiser: checkpoint.load(family.denoiser).to(device, dtype)}
    learning = {part: modules[part] for part in rates}
    trained = method.start(
        MethodContext(config, family, checkpoint, learning, tokenizers, rates, plan.samples, dtype, init_file)
    )
    job = TrainingJob(
        config=config,
        family=family,
        objective=family.objective(checkpoint, config.objective).to(device),
        denoiser=modules[family.denoiser],
        samples=plan.samples,
        latent=latent,
        mask=mask,
        prompt=lambda draw: build_prompt(draw, config.captions, config.optimizer.seed),
        encode_prompts=told.encode,
        param_groups=trained.param_groups(),
        device=device,
        trains_text_encoder=bool(told.trained_encoders),
        offload=told.offload,
    )
    cut = [
        s.id
        for s in plan.samples
        if family.too_long(tokenizers, fixed_prompt(s, config.captions), text_settings(config.captions))
    ]
    return TrainingRun(plan, job, trained, modules, tokenizers, cut)


def _latents(
    plan: RunConfig, device: torch.device, workspace: Workspace, report: ProgressFn
) -> Callable[[SampleRef], tuple[torch.Tensor, torch.Tensor]]:
    """A function from a draw to its latent's distribution; the VAE is gone again when it is there."""
    config, checkpoint = plan.config, plan.checkpoint
    latents = LatentCache(workspace, plan.family, checkpoint.base.vae, vae_scale_factor(checkpoint))
    read, normalize = latents.reader(), plan.family.normalizer(checkpoint)
    views = [LatentKey(sample) for sample in plan.all]
    views += [LatentKey(sample, True) for sample in plan.samples if config.dataset.random_flip]
    latents.prepare(views, lambda: checkpoint.load("vae").to(device), report)
    return lambda draw: normalize(read(LatentKey(draw.image, _turned(config, draw))))


def _turned(config: TrainOptions, draw: SampleRef) -> bool:
    return config.dataset.random_flip and not draw.deterministic and is_flipped(draw, config.optimizer.seed)


def _masks(plan: RunConfig, workspace: Workspace, report: ProgressFn) -> Callable[[SampleRef], torch.Tensor | None]:
    """A function from a draw to its mask; it mirrors with the image."""
    config = plan.config
    if not config.dataset.masks:
        return lambda draw: None
    found = Masks(config.dataset.masks, workspace, vae_scale_factor(plan.checkpoint)).read(plan.all, report)

    def mask(draw: SampleRef) -> torch.Tensor | None:
        own = found.get(draw.image.id)
        return None if own is None else mask_tensor(own, config.dataset.unmasked_weight, _turned(config, draw))

    return mask
