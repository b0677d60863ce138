"""Training of mini-diffusion's text encoder, before the U-Net: hidden states that predict the tags of a caption.

Trained from scratch together with the U-Net, a text encoder fails: its output is noise at first, and the U-Net
learns to ignore it faster than it becomes useful. Places and styles were learned after 5,000 steps, hair and
clothes never. So it is trained on captions alone, for minutes, and then frozen, as Stable Diffusion froze CLIP.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sample_data.mini.prompts import MAX_TOKENS, SYNONYMS, caption
from sample_data.mini.scenes import NAMES, Scenes
from sample_data.mini.training_loop import TrainingSchedule, train_model

if TYPE_CHECKING:
    import torch

_BATCH = 32
_IGNORE_INDEX = -100  # target of tokens that end no tag; torch's cross entropy skips it
SCHEDULE = TrainingSchedule(steps=1_500, learning_rate=1e-3, warmup=100, decay_share=0.5, ema_decay=0.99)
_TAG_INDEX = {name: at for at, name in enumerate(NAMES)} | {
    word: NAMES.index(name) for name, words in SYNONYMS.items() for word in words
}


def train_text_encoder(
    encoder: Any, tokenizer: Any, scenes: Scenes, schedule: TrainingSchedule = SCHEDULE, checkpoint: Path | None = None
) -> None:
    """Train a CLIPTextModel on the captions of scenes.

    The hidden state at a tag's last token predicts that tag; the end token and the padding after it
    predict all tags of the caption. The linear heads for this are discarded.
    """
    import torch

    width = encoder.config.hidden_size
    torch.manual_seed(1)
    heads = torch.nn.ModuleDict({"one": torch.nn.Linear(width, len(NAMES)), "all": torch.nn.Linear(width, len(NAMES))})
    trained = torch.nn.ModuleDict({"encoder": encoder, "heads": heads})

    def loss(step: int, generator: torch.Generator) -> Any:
        chosen = torch.randint(len(scenes.tags), (_BATCH,), generator=generator)
        rng = random.Random(f"{schedule.seed} {step}")
        texts = [caption(scenes.tag_names(int(at)), rng) for at in chosen]
        tokens, ends, named = make_targets(texts, tokenizer)
        states = encoder(tokens).last_hidden_state
        tag_logits = heads["one"](states).flatten(0, 1)
        tag_loss = torch.nn.functional.cross_entropy(tag_logits, ends.flatten(), ignore_index=_IGNORE_INDEX)
        after_end = (tokens == tokenizer.eos_token_id).float()[..., None]
        all_loss = torch.nn.functional.binary_cross_entropy_with_logits(
            heads["all"](states), named[:, None].expand(-1, MAX_TOKENS, -1), reduction="none"
        )
        return tag_loss + (all_loss * after_end).sum() / after_end.sum() / len(NAMES) * 20

    trained.train()
    train_model(trained, loss, schedule, checkpoint)
    encoder.eval()


def make_targets(texts: list[str], tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids (B, MAX_TOKENS), the tag that ends at each token or _IGNORE_INDEX, and all tags (B, len(NAMES))."""
    import torch

    tokens = torch.full((len(texts), MAX_TOKENS), tokenizer.eos_token_id)
    ends = torch.full((len(texts), MAX_TOKENS), _IGNORE_INDEX)
    named = torch.zeros(len(texts), len(NAMES))
    for row, text in enumerate(texts):
        ids = tokenizer(text, truncation=True, max_length=MAX_TOKENS).input_ids
        tokens[row, : len(ids)] = torch.tensor(ids)
        at = 1
        for number, piece in enumerate(text.split(", ")):
            at += bool(number) + len(_ids(piece, tokenizer))  # a comma is one token
            tag = _TAG_INDEX.get(piece.rpartition(" of ")[2] if number == 0 else piece)
            if tag is not None and at < len(ids):
                ends[row, at - 1] = tag
                named[row, tag] = 1
    return tokens, ends, named


def _ids(piece: str, tokenizer: Any) -> list[int]:
    found: list[int] = tokenizer(piece, add_special_tokens=False).input_ids
    return found
