"""Text to image with diffusers' pipelines: equal settings give equal images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import PrepError
from training.models.loader import BaseModel, open_base_model
from training.models.parts import quiet

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from pipeline.stage import ProgressFn
    from pipeline.workspace import Workspace
    from training.models.family import Family, Modules

Sampler = Literal["auto", "euler", "euler_a", "ddim", "lms", "plms", "dpm2", "unipc", "dpm++", "dpm++_sde", "flow"]

# By WebUI's names: diffusers' scheduler class, and its arguments besides the model's own noise schedule.
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "lms": ("LMSDiscreteScheduler", {}),
    "plms": ("PNDMScheduler", {"skip_prk_steps": True}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpm++_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "flow": ("FlowMatchEulerDiscreteScheduler", {}),
}
# Further arguments of pipelines; a safety checker would replace images by black ones.
_EXTRA = {
    "StableDiffusionPipeline": {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
}


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """The settings of one image. Equal settings and an equal base model give an equal image."""

    prompt: str
    negative: str = ""
    width: int = 0  # pixels; 0: the base model's default
    height: int = 0
    steps: int = 25
    guidance_scale: float = 7.0  # classifier-free guidance; 1: without (https://arxiv.org/abs/2207.12598)
    seed: int = 0
    sampler: Sampler = "auto"  # auto: dpm++, or flow where the base was trained so

    def resolve(self, family: Family, side: int = 0) -> SampleRequest:
        """The request with its size filled in, the base's `side` or else the family's; PrepError if that cannot be."""
        usual = side or family.default_size
        full = replace(self, width=self.width or usual, height=self.height or usual)
        for side in (full.width, full.height):
            if side % family.multiple or not family.multiple <= side <= 4096:
                raise PrepError(
                    f"A sample of {full.width} x {full.height} pixels cannot be made.",
                    f"The sides must be multiples of {family.multiple} and at most 4096.",
                )
        if not 1 <= self.steps <= 1000:
            raise PrepError(f"A sample cannot be made in {self.steps} steps.", "Usual are 20 to 50.")
        flow = is_flow(family)
        if self.sampler != "auto" and (self.sampler == "flow") != flow:
            able = "flow" if flow else ", ".join(name for name in SAMPLERS if name != "flow")
            raise PrepError(f"{family.title} has no sampler {self.sampler!r}.", f"It has: {able}.")
        return full


def is_flow(family: Family) -> bool:
    """Whether the family is trained, and so sampled, by flow matching."""
    return family.denoiser == "transformer"


@dataclass(frozen=True, slots=True)
class ImageGenerator:
    """diffusers' pipeline of a family, built from modules that may be in training."""

    family: Family
    pipeline: Any
    schedule: dict[str, Any]  # the noise schedule of the base model

    @classmethod
    def build(
        cls, family: Family, checkpoint: BaseModel, modules: dict[str, Any], tokenizers: Modules | None = None
    ) -> ImageGenerator:
        """A generator with these modules by part: the denoiser, the text encoders and the VAE.

        Without `tokenizers` the base model's own are used.
        """
        import diffusers

        quiet()
        tokenizers = checkpoint.tokenizers() if tokenizers is None else tokenizers
        parts: dict[str, Any] = {family.denoiser: modules[family.denoiser], "vae": modules["vae"]}
        for part in family.encoders:
            parts[part] = modules.get(part)
            parts[part.replace("text_encoder", "tokenizer")] = tokenizers.get(part)
        schedule = {key: value for key, value in checkpoint.config("scheduler").items() if not key.startswith("_")}
        kind = getattr(diffusers, family.pipeline)
        pipeline = kind(**parts, scheduler=_sampler("auto", family, schedule), **_EXTRA.get(family.pipeline, {}))
        pipeline.set_progress_bar_config(disable=True)
        return cls(family, pipeline, schedule)

    def generate(self, requests: list[SampleRequest]) -> list[Image]:
        """An RGB image for each request, in one batch: requests may differ only in prompts and seeds, see `batched`.

        Each image has its own random generator on the CPU, so its noise depends on neither the device nor the
        batch. Rounding does depend on the batch size: single pixel values may differ by 1.
        """
        import torch

        full = [request.resolve(self.family) for request in requests]
        first = full[0]
        self.pipeline.scheduler = _sampler(first.sampler, self.family, self.schedule)
        with torch.inference_mode():
            output = self.pipeline(
                prompt=[one.prompt for one in full],
                negative_prompt=[one.negative for one in full],
                width=first.width,
                height=first.height,
                num_inference_steps=first.steps,
                guidance_scale=first.guidance_scale,
                generator=[torch.Generator("cpu").manual_seed(one.seed) for one in full],
                output_type="latent",
            )
            return [self._decode(latent[None]) for latent in output.images]

    def _decode(self, latents: torch.Tensor) -> Image:
        """Decode a latent (1, C, h, w) of unit variance, in the VAE's dtype, which may differ from the denoiser's."""
        import numpy as np
        from PIL import Image as PillowImage

        vae = self.pipeline.vae
        scale, shift = vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0
        pixels = vae.decode(latents.to(vae.device, vae.dtype) / scale + shift, return_dict=False)[0]
        array = ((pixels[0].float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()
        return PillowImage.fromarray(np.ascontiguousarray(array.permute(1, 2, 0).numpy()))


def batched(requests: list[SampleRequest], batch_size: int) -> Iterator[list[SampleRequest]]:
    """The requests in order, in batches of neighbors with equal settings, of at most `batch_size` each."""
    for _, group in itertools.groupby(requests, lambda one: replace(one, prompt="", negative="", seed=0)):
        equal = list(group)
        yield from (equal[start : start + batch_size] for start in range(0, len(equal), batch_size))


def generate_images(
    base: str, requests: list[SampleRequest], workspace: Workspace, report: ProgressFn, batch_size: int = 1
) -> Iterator[Image]:
    """Images of a base model, in the order of the requests, which are validated before the model is loaded."""
    from training.models.base_model import find_base
    from training.models.families import detect_family
    from training.models.validate import native_resolution

    checkpoint = open_base_model(find_base(base, workspace), workspace.cache)
    family = detect_family(checkpoint)
    wanted = [request.resolve(family, native_resolution(checkpoint, family)) for request in requests]
    generator = load_generator(family, checkpoint)
    done = 0
    for group in batched(wanted, batch_size):
        for image in generator.generate(group):
            yield image
            done += 1
            report(done, len(wanted))


def load_generator(family: Family, checkpoint: BaseModel) -> ImageGenerator:
    """A generator with a base model: on a GPU, in bfloat16, where there is one that has it."""
    import torch

    gpu = torch.cuda.is_available()
    half = torch.bfloat16 if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    modules = {part: checkpoint.load(part) for part in (family.denoiser, "vae", *checkpoint.encoders())}
    # The VAE stays in float32: SDXL's overflows in half precision.
    modules = {
        part: m.to("cuda" if gpu else "cpu", torch.float32 if part == "vae" else half) for part, m in modules.items()
    }
    return ImageGenerator.build(family, checkpoint, modules)


def _sampler(name: Sampler, family: Family, schedule: dict[str, Any]) -> Any:
    """A new scheduler: the state that an image leaves in one would change the next image."""
    import diffusers

    usual = "flow" if is_flow(family) else "dpm++"
    kind, extra = SAMPLERS[usual if name == "auto" else name]
    return getattr(diffusers, kind).from_config(schedule, **extra)
