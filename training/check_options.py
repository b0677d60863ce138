"""Contradictions between options of different groups."""

from __future__ import annotations

from pipeline.errors import PrepError
from training.methods.block_ranks import read_block_ranks
from training.optim.lr_by_step import parse_lr_by_step
from training.options.method import ADAPTERS
from training.options.optimizer import LR_FREE_OPTIMIZERS
from training.options.train_options import TrainOptions

_WITH_CONV = ("locon", "loha", "lokr", "dora")
_OF_MODULES = (*ADAPTERS, "dreambooth")  # methods that learn weights of the denoiser or of text encoders

# Options that only some methods read.
_READERS: dict[str, tuple[str, ...]] = {
    "rank": ADAPTERS,
    "alpha": ADAPTERS,
    "block_ranks": ADAPTERS,
    "conv_rank": _WITH_CONV,
    "conv_alpha": _WITH_CONV,
    "factor": ("lokr",),
    "loraplus_lr_ratio": ("lora", "locon", "dora"),
    "network_dropout": ("lora", "locon"),
    "lora_key_format": ADAPTERS,
    "init_from": (*ADAPTERS, "inversion"),
    "learning_rate": _OF_MODULES,
    "text_encoder_lr": _OF_MODULES,
    "text_encoder_2_lr": _OF_MODULES,
    "num_vectors": ("inversion",),
    "init_text": ("inversion",),
    "init_mean": ("inversion",),
    "embedding_lr": ("inversion",),
    "max_embedding_norm": ("inversion",),
}
# What a file that is trained on decides.
_SIZES = ("rank", "alpha", "conv_rank", "conv_alpha", "block_ranks", "factor", "num_vectors", "init_text", "init_mean")


def check_options(config: TrainOptions) -> None:
    """Raise PrepError when options contradict each other across groups, or a text among them cannot be read."""
    read_block_ranks(config.method.block_ranks)
    by_step = parse_lr_by_step(config.textual_inversion.embedding_lr, "embedding_lr")
    wrong = next((text for holds, *text in _contradictions(config) if holds), None)
    if wrong:
        raise PrepError(f"train: {wrong[0]}", wrong[1])
    if config.method.method != "inversion":
        return
    if config.optimizer.optimizer in LR_FREE_OPTIMIZERS:
        raise PrepError(
            f"train: {config.optimizer.optimizer} finds the rate by itself; embeddings learn at their own.",
            "Use the optimizer adamw.",
        )
    if config.optimizer.lr_scheduler != "constant" and not by_step.constant:
        raise PrepError(
            f"train: the scheduler {config.optimizer.lr_scheduler} has no effect on an embedding_lr with steps.",
            "Leave the scheduler out, or give one rate.",
        )


def _contradictions(config: TrainOptions) -> list[tuple[bool, str, str]]:
    """Whether it holds, what is wrong, what to do."""
    method, values = config.method, config.values()
    given = [option.name for option in config.options() if values[option.name] != option.default]
    unread = [name for name in given if method.method not in _READERS.get(name, (method.method,))]
    sized = [name for name in given if name in _SIZES]
    return [
        (
            unread == ["conv_rank"] and method.method == "lora",
            "lora has no adapters in the convolutional blocks, so conv_rank has no effect.",
            "Use: --method locon",
        ),
        (bool(unread), f"{', '.join(unread)} has no effect on the method {method.method}.", "Leave it out."),
        (
            method.conv_alpha > 0 and not method.conv_rank and method.method != "locon",
            f"conv_alpha has no effect: without conv_rank {method.method} leaves out the convolutional blocks.",
            "Give one, for example: --conv-rank 8",
        ),
        (
            method.lora_key_format == "diffusers" and method.method in ("loha", "lokr"),
            f"diffusers does not read {method.method}.",
            "Leave lora_key_format out.",
        ),
        (
            bool(method.init_from) and bool(sized),
            f"{', '.join(sized)} has no effect on the file to train on, which has its own size.",
            "Leave it out.",
        ),
    ]
