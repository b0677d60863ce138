"""The methods that train a small adapter next to each of the base model's layers, and the facts that they share."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.methods.adapters import LoraMethod
from training.methods.block_ranks import read_block_ranks
from training.methods.compatibility import check_adapters
from training.methods.lora_variants import AdapterType
from training.methods.method import MethodContext, MethodSpec, TrainedFile

if TYPE_CHECKING:
    from training.batch import RunConfig
    from training.models.family import Family
    from training.options.train_options import TrainOptions

log = logging.getLogger(__name__)

# What all adapters read.
ADAPTER_OPTIONS = frozenset(
    (
        *("rank", "alpha", "block_ranks", "lora_key_format", "init_from"),
        *("learning_rate", "text_encoder_lr", "text_encoder_2_lr"),
    )
)
CONV_OPTIONS = frozenset(("conv_rank", "conv_alpha"))
ADAPTER_LR = 1e-4  # usual for all of them, as in kohya's and diffusers' guides
STEPS_PER_IMAGE = 100  # training steps that are usual for an adapter, at batch size 1


@dataclass(frozen=True, kw_only=True)
class AdapterMethod(MethodSpec):
    """A method whose file holds a small adapter for each layer."""

    type: AdapterType
    usual_rank: int = 0  # the largest rank that is usual; 0: none is known
    adapts_convolutions: bool = False  # also without --conv-rank
    options_of_file: frozenset[str] = frozenset(("rank", "alpha", "conv_rank", "conv_alpha", "block_ranks", "factor"))
    default_lr: float = ADAPTER_LR

    def check_options(self, config: TrainOptions) -> None:
        options = config.method
        read_block_ranks(options.block_ranks)
        if options.conv_alpha > 0 and not options.conv_rank and not self.adapts_convolutions:
            raise PrepError(
                f"train: conv_alpha has no effect: without conv_rank {self.name} does not adapt convolutions.",
                "Give one, for example: --conv-rank 8",
            )
        if options.lora_key_format == "diffusers" and not self.type.in_diffusers:
            raise PrepError(f"train: diffusers cannot read {self.name} files.", "Leave lora_key_format out.")

    def check_base(self, plan: RunConfig, parts: list[str], init_file: Path | None) -> None:
        check_adapters(plan, parts, init_file, self.adapts_convolutions)
        rank = plan.config.method.rank
        if 0 < self.usual_rank < rank and not init_file:
            log.warning(
                "Rank %d is above the usual maximum of %d for %s: the file is large, and overfitting is more likely.",
                *(rank, self.usual_rank, self.name),
            )

    def count_trained(self, denoiser: Any, config: TrainOptions, family: Family) -> int:
        """As many as a LoRA has: rank times the inputs and outputs of each layer."""
        pattern = family.targets[family.denoiser].linear
        weights = [part.weight for name, part in denoiser.named_modules() if re.fullmatch(pattern, name)]
        return sum(config.method.rank * (weight.shape[0] + math.prod(weight.shape[1:])) for weight in weights)

    def usage(self, file: TrainedFile) -> dict[str, str]:
        webui = {"WebUI": f"copy it to models/Lora; prompt: {file.prompt} <lora:{file.name}:1>"}
        comfy = {"ComfyUI": f"copy it to models/loras; node: Load LoRA; prompt: {file.prompt}"}
        return (webui if file.kohya_names else {}) | comfy

    def start(self, context: MethodContext) -> LoraMethod:
        return LoraMethod(context, self.type, self.adapts_convolutions)
