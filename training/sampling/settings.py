"""All settings of an image: equal settings and equal models give an equal image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pipeline.errors import PrepError
from pipeline.stage import Options, group, option
from training.sampling.schedules import AUTOMATIC

if TYPE_CHECKING:
    from training.models.family import Family

LARGEST_SIDE = 8192  # pixels
LARGEST_SEED = 2**63 - 1
_SIZE = re.compile(r"\s*(\d{1,6})\s*[xX×*]\s*(\d{1,6})\s*")


@dataclass(frozen=True, kw_only=True)
class SamplerSettings(Options):
    """How noise becomes an image."""

    name: ClassVar[str] = "generate"
    section: ClassVar[str] = "Sampling"

    sampler: str = option(
        "",
        "Sampler by its name in AUTOMATIC1111's WebUI, such as 'Euler a' or 'DPM++ 2M Karras'. Default: DPM++ 2M; "
        "Euler where the base model was trained by flow matching.",
        metavar="NAME",
    )
    schedule: str = option(
        AUTOMATIC, "Noise schedule, such as Karras or 'SGM Uniform'; Automatic is the sampler's own.", metavar="NAME"
    )
    steps: int = option(20, "Sampling steps.", low=1, high=1000)
    cfg_scale: float = option(
        7.0, "Scale of classifier-free guidance; 1 ignores the negative prompt and is twice as fast.", low=0, high=100
    )
    eta: float = option(
        -1.0, "Noise that ancestral samplers and DDIM add in each step; -1 is the sampler's own share.", low=-1, high=10
    )
    clip_skip: int = option(1, "Layer of the text encoder to use, counted from the last; for SD 1.x.", low=1, high=12)
    emphasis: Literal["original", "no_norm", "ignore", "none"] = option(
        "original", "What weights such as (word:1.2) do; none reads brackets as text."
    )
    precision: Literal["auto", "fp32", "fp16", "bf16"] = option(
        "auto", "Number format of the denoiser and the text encoders; auto is fp32 on a CPU, else fp16 or bf16."
    )


@dataclass(frozen=True, kw_only=True)
class NoiseSettings(Options):
    """The noise that an image begins with."""

    name: ClassVar[str] = "generate"
    section: ClassVar[str] = "Noise"

    seed: int = option(
        -1, "Seed of the first image, each further one has the next; -1 is random.", low=-1, high=LARGEST_SEED
    )
    rng: Literal["gpu", "cpu", "nv"] = option(
        "gpu", "Random numbers as a GPU's or a CPU's; nv computes those of NVIDIA GPUs on any machine."
    )
    variation_seed: int = option(-1, "Seed of the noise to mix in; -1 is random.", low=-1, high=LARGEST_SEED)
    variation_strength: float = option(0.0, "Share of the noise of the variation seed.", low=0, high=1)
    ensd: int = option(
        0, "Number added to the seed for the noise of ancestral samplers (eta noise seed delta).", low=0, high=2**63
    )
    seed_resize: str = option(
        "", "Size whose noise to use for the center of images of another size.", metavar="WIDTHxHEIGHT"
    )


@dataclass(frozen=True, kw_only=True)
class Img2ImgSettings(Options):
    """An image to begin with instead of noise alone."""

    name: ClassVar[str] = "generate"
    section: ClassVar[str] = "Image to image"

    init_image: str = option("", "Image to begin with.", metavar="FILE")
    denoise: float = option(0.75, "How much of the image to replace, from 0 to 1.", low=0, high=1)
    resize_mode: Literal["stretch", "crop", "fill", "latent"] = option(
        "stretch", "How the image gets the size; latent stretches its latents."
    )


@dataclass(frozen=True, kw_only=True)
class HiresSettings(Options):
    """Hires fix: enlarge the image, add noise and denoise again."""

    name: ClassVar[str] = "generate"
    section: ClassVar[str] = "Hires fix"

    hires_scale: float = option(0.0, "Enlarge by this factor; 0 is off.", low=0, high=16)
    hires_size: str = option(
        "", "Enlarge to this size; 0 for a side keeps the proportions, such as 0x1024.", metavar="WIDTHxHEIGHT"
    )
    hires_steps: int = option(0, "Steps of the second pass; 0 takes those of the first.", low=0, high=1000)
    hires_denoise: float = option(0.7, "How much of the enlarged image to replace, from 0 to 1.", low=0, high=1)
    hires_upscaler: str = option(
        "Latent",
        "Latent, 'Latent (antialiased)', 'Latent (bicubic)', 'Latent (bicubic antialiased)', 'Latent (nearest)', "
        "'Latent (nearest-exact)', Lanczos, or the file of an upscaling model.",
        metavar="NAME",
    )
    hires_sampler: str = option("", "Sampler of the second pass. Default: that of the first.", metavar="NAME")
    hires_schedule: str = option("", "Schedule of the second pass. Default: that of the first.", metavar="NAME")
    hires_prompt: str = option("", "Prompt of the second pass. Default: that of the first.")
    hires_negative: str = option("", "Negative prompt of the second pass. Default: that of the first.")

    def check(self) -> None:
        if self.hires_scale and self.hires_size:
            raise PrepError("generate: --hires-scale and --hires-size are both given.", "Leave one of them out.")
        if self.hires_scale and self.hires_scale < 1:
            raise PrepError(f"generate: --hires-scale is {self.hires_scale:g}.", "It must be at least 1; usual is 2.")
        if self.hires_size and not any(parse_size(self.hires_size, "--hires-size")):
            raise PrepError("generate: --hires-size is 0x0.", "Give at least one side, such as 0x1024.")

    @property
    def active(self) -> bool:
        return bool(self.hires_scale or self.hires_size)


@dataclass(frozen=True, kw_only=True)
class ImageSettings(Options):
    """The settings of one image."""

    name: ClassVar[str] = "generate"
    section: ClassVar[str] = "Image"

    prompt: str = field(default="")
    negative: str = option("", "Negative prompt.", metavar="PROMPT")
    size: str = option(
        "",
        "Size in pixels. Default: that of the images which the base model was trained with.",
        metavar="WIDTHxHEIGHT",
    )
    sampling: SamplerSettings = group(SamplerSettings)
    noise: NoiseSettings = group(NoiseSettings)
    img2img: Img2ImgSettings = group(Img2ImgSettings)
    hires: HiresSettings = group(HiresSettings)
    control: tuple[str, ...] = option(
        [],
        "Follow an image (ControlNet), such as canny=photo.png; up to ten, each with its own options after commas: "
        "model=FILE, weight=0.8, start=0, end=0.7, mode=balanced|prompt|control, resize=crop|stretch|fill, "
        "resolution=512 (0: pixel perfect), low=100, high=200, map=no where the image is a map already. "
        "prep control shows maps.",
        metavar="KIND=IMAGE",
    )

    def check(self) -> None:
        if self.size:
            parse_size(self.size, "--size")
        if self.noise.seed_resize:
            parse_size(self.noise.seed_resize, "--seed-resize")
        if self.hires.active and self.img2img.init_image:
            raise PrepError(
                "generate: hires fix enlarges a generated image, not that of --init-image.",
                "Leave --hires-scale and --hires-size out, and give the larger --size.",
            )

    @property
    def width(self) -> int:
        """In pixels; 0 is the base model's, before `resolve`."""
        return parse_size(self.size, "--size")[0] if self.size else 0

    @property
    def height(self) -> int:
        """In pixels; 0 is the base model's, before `resolve`."""
        return parse_size(self.size, "--size")[1] if self.size else 0

    @classmethod
    def of(cls, prompt: str, values: Mapping[str, Any]) -> Self:
        """The settings of a prompt with these values by option."""
        return replace(cls.from_values(values), prompt=prompt)

    def later(self, count: int) -> Self:
        """The settings of an image that so many others come before: with a later seed; a random one stays so."""
        seed = self.noise.seed
        return self if seed < 0 else self.with_values({"seed": seed + count})

    def everything(self) -> dict[str, Any]:
        """The prompt and all options by name."""
        return {"prompt": self.prompt} | self.values()

    def resolve(self, family: Family, side: int = 0) -> Self:
        """The settings with their size filled in: the base model's `side`, or else the family's.

        PrepError for a size that the family cannot make.
        """
        usual = side or family.default_size
        full = replace(self, size=f"{self.width or usual}x{self.height or usual}")
        check_size(full.width, full.height, family.multiple, "--size")
        return full


def parse_size(text: str, flag: str) -> tuple[int, int]:
    """Width and height of '512x768'; PrepError for anything else."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise PrepError(f"generate: {flag} is {text[:40]!r}.", f"Give width and height: {flag} 512x768")
    return int(found[1]), int(found[2])


def check_size(width: int, height: int, multiple: int, flag: str) -> None:
    """Raise PrepError for sides that are no multiples of `multiple`, or too large; the hint has the nearest size."""
    near = [min(max(round(side / multiple), 1) * multiple, LARGEST_SIDE) for side in (width, height)]
    if near != [width, height]:
        raise PrepError(
            f"An image of {width} x {height} pixels cannot be made: sides must be multiples of {multiple}, "
            f"{LARGEST_SIDE} at most.",
            f"The nearest size: {flag} {near[0]}x{near[1]}",
        )
