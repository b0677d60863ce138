"""Text conditioning of the denoiser: encoded before training and cached on disk where possible, otherwise during it."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.data.captions import fixed_prompt, text_settings
from training.data.text_cache import TextEmbeddingCache
from training.performance.prefetch import to_device
from training.precision import text_encoder_dtype

if TYPE_CHECKING:
    import torch

    from pipeline.stage import ProgressFn
    from pipeline.workspace import Workspace
    from training.batch import RunConfig
    from training.models.family import Condition, Modules

log = logging.getLogger(__name__)

Encode = Callable[[list[str]], "Condition"]

_REMEMBERED = 1024  # prompts whose embeddings stay in memory: 0.24 GB with Stable Diffusion 1.x


@dataclass(frozen=True, slots=True)
class TextConditioning:
    """A function from prompts to conditions on the device, and the text encoders that it keeps loaded."""

    encode: Encode
    trained_encoders: dict[str, Any]  # by part
    offload: Callable[[], bool] = lambda: False  # moves text encoders that are not trained to the CPU; False: none left


@dataclass(frozen=True, slots=True)
class PromptEncoding:
    """What encodes a run's prompts: its base model's text encoders, their tokenizers and the caption options."""

    plan: RunConfig
    tokenizers: Modules
    device: torch.device

    @property
    def dtypes(self) -> dict[str, torch.dtype]:
        """The dtype of each text encoder, by part."""
        config, family = self.plan.config.model, self.plan.family
        return {part: text_encoder_dtype(config, part, family, self.device) for part in self.plan.checkpoint.encoders()}

    @property
    def cache_key(self) -> str:
        """Everything that determines a prompt's embeddings."""
        reduced = "".join(f" {part} in {dtype}" for part, dtype in self.dtypes.items() if dtype.itemsize < 4)
        settings = text_settings(self.plan.config.captions)
        return f"{self.plan.family.name} {self.plan.checkpoint.base.sha256} {settings}{reduced}"

    def load_encoders(self) -> dict[str, Any]:
        """The text encoders on the device, by part."""
        return {part: self.plan.checkpoint.load(part, dtype).to(self.device) for part, dtype in self.dtypes.items()}

    def with_encoders(self, encoders: dict[str, Any]) -> Encode:
        """The function that encodes prompts with these text encoders."""
        settings = text_settings(self.plan.config.captions)
        return lambda prompts: self.plan.family.encode_text(self.tokenizers, encoders, prompts, settings)


def build_text_conditioning(
    encoding: PromptEncoding, trains_text_encoder: bool, workspace: Workspace, report: ProgressFn
) -> TextConditioning:
    """Choose how prompts are encoded: by trained encoders, by encoders kept at hand, or ahead of training.

    Encoders stay loaded where they are trained, or where captions vary too much to encode all of them
    before training. Otherwise all prompts are encoded now, and no encoder is loaded during training.
    """
    captions = encoding.plan.config.captions

    def on_device(encode: Encode) -> Encode:
        return lambda prompts: {name: to_device(value, encoding.device) for name, value in encode(prompts).items()}

    if trains_text_encoder:
        encoders = encoding.load_encoders()
        return TextConditioning(on_device(encoding.with_encoders(encoders)), encoders)
    if captions.endless:
        encoders = encoding.load_encoders()
        offloadable = OffloadableEncoders(encoders, encoding.with_encoders(encoders))
        return TextConditioning(on_device(_remember(offloadable.encode_prompts)), {}, offloadable.offload)
    cache = TextEmbeddingCache(workspace.cache / "texts", encoding.cache_key)
    prompts = {fixed_prompt(image, captions) for image in encoding.plan.all} | ({""} if captions.varied else set())
    cache.prepare(sorted(prompts), lambda: encoding.with_encoders(encoding.load_encoders()), report)
    return TextConditioning(on_device(cache.reader()), {})


class OffloadableEncoders:
    """Text encoders used now and then during training: on the device while its memory suffices, then on the CPU.

    They run in the thread that prepares the next batch, while another thread runs a step.
    """

    def __init__(self, encoders: dict[str, Any], encode: Encode) -> None:
        self.encoders = encoders
        self.encode = encode
        self.lock = threading.Lock()

    def encode_prompts(self, prompts: list[str]) -> Condition:
        """Encode prompts, on the CPU from when on the device runs out of memory."""
        import torch

        with self.lock:
            try:
                return self.encode(prompts)
            except torch.OutOfMemoryError:
                if not self._move_to_cpu():
                    raise
            log.warning("Out of GPU memory for the text encoders: continuing with them on the CPU.")
            return self.encode(prompts)

    def offload(self) -> bool:
        """Move the encoders to the CPU; False if they are there already."""
        with self.lock:
            return self._move_to_cpu()

    def _move_to_cpu(self) -> bool:
        on_device = [module for module in self.encoders.values() if next(module.parameters()).device.type != "cpu"]
        for module in on_device:
            module.to("cpu")
        return bool(on_device)


def _remember(encode: Encode) -> Encode:
    """Encode each prompt on its first use, alone, and remember the latest ones."""
    import torch

    @functools.lru_cache(_REMEMBERED)
    def encode_one(prompt: str) -> Condition:
        with torch.no_grad():
            return {name: value[0].cpu() for name, value in encode([prompt]).items()}

    def encode_all(prompts: list[str]) -> Condition:
        rows = [encode_one(prompt) for prompt in prompts]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    return encode_all
