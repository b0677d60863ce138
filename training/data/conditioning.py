"""What prompts tell the denoiser: read from the cache where that can be whole, else asked of the text encoders."""

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

_KEPT = 1024  # prompts whose encoding is remembered where they vary: 0.24 GB of Stable Diffusion 1.x


@dataclass(frozen=True, slots=True)
class TextConditioning:
    """What prompts tell the denoiser, and which text encoders that keeps loaded."""

    encode: Encode  # prompts to conditions, on the device
    trained_encoders: dict[str, Any]  # encoders that learn, by part
    offload: Callable[[], bool] = lambda: False  # takes encoders that do not learn from the device; False: none there


def build_text_conditioning(
    plan: RunConfig, tokenizers: Modules, device: torch.device, place: tuple[Workspace, ProgressFn], learns: bool
) -> TextConditioning:
    """Encoders that learn stay loaded, and where captions vary without end, as long as there is memory for them.

    Otherwise every prompt is asked ahead and kept on disk: no encoder is there when training begins.
    """
    config, family, checkpoint = plan.config, plan.family, plan.checkpoint
    workspace, report = place
    formats = {part: text_encoder_dtype(config.model, part, family, device) for part in checkpoint.encoders()}

    def load() -> dict[str, Any]:
        return {part: checkpoint.load(part, kind).to(device) for part, kind in formats.items()}

    def by(modules: dict[str, Any]) -> Encode:
        return lambda prompts: family.encode_text(tokenizers, modules, prompts, text_settings(config.captions))

    def on_device(encode: Encode) -> Encode:
        return lambda prompts: {name: to_device(value, device) for name, value in encode(prompts).items()}

    if learns:
        modules = load()
        return TextConditioning(on_device(by(modules)), modules)
    if config.captions.endless:
        modules = load()
        standby = OffloadableEncoders(modules, by(modules))
        return TextConditioning(on_device(_as_they_come(standby.encode_prompts)), {}, standby.offload)
    rounded = "".join(f" {part} in {kind}" for part, kind in formats.items() if kind.itemsize < 4)
    texts = TextEmbeddingCache(
        workspace.cache / "texts", f"{family.name} {checkpoint.base.sha256} {text_settings(config.captions)}{rounded}"
    )
    prompts = {fixed_prompt(sample, config.captions) for sample in plan.all} | (
        {""} if config.captions.varied else set()
    )
    texts.prepare(sorted(prompts), lambda: by(load()), report)
    return TextConditioning(on_device(texts.reader()), {})


class OffloadableEncoders:
    """Text encoders that are asked now and then: on the device as long as it has memory for them.

    They are asked in the thread that makes the next batch, while another one takes a step.
    """

    def __init__(self, encoders: dict[str, Any], encode: Encode) -> None:
        self.encoders = encoders
        self.encode = encode
        self.turn = threading.Lock()

    def encode_prompts(self, prompts: list[str]) -> Condition:
        """What the prompts tell; without memory enough on the device, as the processor reads them."""
        import torch

        with self.turn:
            try:
                return self.encode(prompts)
            except torch.OutOfMemoryError:
                if not self._leave():
                    raise
            log.warning("The GPU's memory is too small for the text encoders: going on with them on the processor.")
            return self.encode(prompts)

    def offload(self) -> bool:
        """Take them from the device; False when none is there."""
        with self.turn:
            return self._leave()

    def _leave(self) -> bool:
        away = [module for module in self.encoders.values() if next(module.parameters()).device.type != "cpu"]
        for module in away:
            module.to("cpu")
        return bool(away)


def _as_they_come(encode: Encode) -> Encode:
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
