"""Builds the training job from options, base model and images."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.plural import counted
from pipeline.progress import phase
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

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """A run that is ready to train, with what its export needs."""

    plan: RunConfig
    job: TrainingJob
    method: TrainingMethod
    modules: dict[str, Any]  # the denoiser, and the text encoders that are trained, by part
    tokenizers: Modules  # which know the tokens that the method has added
    too_long: list[str]  # ids of the images whose captions are truncated
    report: ProgressFn  # of the parts besides the steps, each as a phase of its own


def build_job(plan: RunConfig, workspace: Workspace, report: ProgressFn) -> TrainingRun:
    """Load the base model, fill the caches, and prepare what is trained. PrepError when options do not fit the base.

    The parts of the base model are loaded one by one, and the denoiser, the largest, last.
    """
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
    text = build_text_conditioning(
        PromptEncoding(plan, tokenizers, device),
        not rates.keys() <= {family.denoiser},
        workspace,
        phase(report, "caching texts"),
    )
    phase(report, "loading")(0, 0)
    dtype = torch.bfloat16 if uses_bf16(config.model, device) and not method.keeps_fp32 else torch.float32
    modules = text.trained_encoders | {family.denoiser: checkpoint.load(family.denoiser).to(device, dtype)}
    trained_parts = {part: modules[part] for part in rates}
    trained = method.start(
        MethodContext(config, family, checkpoint, trained_parts, tokenizers, rates, plan.samples, dtype, init_file)
    )
    job = TrainingJob(
        config=config,
        family=family,
        objective=family.objective(checkpoint, config.objective).to(device),
        denoiser=modules[family.denoiser],
        samples=plan.samples,
        latent=latent,
        mask=mask,
        prompt=lambda sample: build_prompt(sample, config.captions, config.optimizer.seed),
        encode_prompts=text.encode,
        param_groups=trained.param_groups(),
        device=device,
        trains_text_encoder=bool(text.trained_encoders),
        offload=text.offload,
    )
    return TrainingRun(plan, job, trained, modules, tokenizers, _cut_captions(plan, tokenizers), report)


def _cut_captions(plan: RunConfig, tokenizers: Modules) -> list[str]:
    """The ids of the images whose captions are cut off; told how many."""
    captions = plan.config.captions
    settings = text_settings(captions)
    cut = [
        image.id for image in plan.samples if plan.family.too_long(tokenizers, fixed_prompt(image, captions), settings)
    ]
    if cut:
        longer = f"; --max-token-length {settings.tokens + 75} reads more" if settings.tokens < 225 else ""
        log.warning(
            "CLIP reads the first %d tokens of %s; the rest is cut off%s.",
            settings.tokens,
            counted(len(cut), "longer caption"),
            longer,
        )
    return cut


def _latents(
    plan: RunConfig, device: torch.device, workspace: Workspace, report: ProgressFn
) -> Callable[[SampleRef], tuple[torch.Tensor, torch.Tensor]]:
    """A function from a sample to the distribution of its latent; the VAE is loaded only to fill the cache."""
    config, checkpoint = plan.config, plan.checkpoint
    latents = LatentCache(workspace, plan.family, checkpoint.base.vae, vae_scale_factor(checkpoint))
    read, normalize = latents.reader(), plan.family.normalizer(checkpoint)
    keys = [LatentKey(image) for image in plan.all]
    keys += [LatentKey(image, True) for image in plan.samples if config.dataset.random_flip]
    latents.prepare(keys, lambda: checkpoint.load("vae").to(device), phase(report, "caching latents"))
    return lambda sample: normalize(read(LatentKey(sample.image, flips(config, sample))))


def flips(config: TrainOptions, sample: SampleRef) -> bool:
    """Whether this showing of an image is flipped."""
    return config.dataset.random_flip and not sample.deterministic and is_flipped(sample, config.optimizer.seed)


def _masks(plan: RunConfig, workspace: Workspace, report: ProgressFn) -> Callable[[SampleRef], torch.Tensor | None]:
    """A function from a sample to its mask, which is flipped as the image is."""
    config = plan.config
    if not config.dataset.masks:
        return lambda sample: None
    folder = Masks(config.dataset.masks, workspace, vae_scale_factor(plan.checkpoint))
    masks = folder.read(plan.all, phase(report, "reading masks"))

    def mask(sample: SampleRef) -> torch.Tensor | None:
        own = masks.get(sample.image.id)
        return None if own is None else mask_tensor(own, config.dataset.unmasked_weight, flips(config, sample))

    return mask
