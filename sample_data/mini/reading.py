"""How the painter's text encoder learns to read, before anything is painted: words to tags, in context.

A text encoder that learns along with the U-Net from nothing is soon silenced: at first its words are noise to
the U-Net, which learns to ignore them faster than they learn to mean something. Places and styles came through
after 5,000 steps, hair and clothes never. So it learns from captions alone, minutes, and then stays as it is,
as Stable Diffusion's stayed as CLIP had left it.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sample_data.mini.prompts import ALSO, PLACES, caption
from sample_data.mini.scenes import NAMES, Scenes
from sample_data.mini.training_loop import Course, practise

if TYPE_CHECKING:
    import torch

_BATCH = 32
_NOTHING = -100  # a place where no tag ends: torch's loss leaves it out
COURSE = Course(steps=1_500, rate=1e-3, warm=100, cool=0.5, keep=0.99)
_MEANT = {name: at for at, name in enumerate(NAMES)} | {
    word: NAMES.index(name) for name, words in ALSO.items() for word in words
}


def teach(encoder: Any, tokenizer: Any, seen: Scenes, course: Course = COURSE, file: Path | None = None) -> None:
    """Teach a CLIPTextModel what the captions of scenes name.

    Where a tag's last word stands, the state tells that tag; at the end of the text, and at every place
    behind it, all tags that were named. The heads that are asked are thrown away.
    """
    import torch

    width = encoder.config.hidden_size
    torch.manual_seed(1)
    heads = torch.nn.ModuleDict({"one": torch.nn.Linear(width, len(NAMES)), "all": torch.nn.Linear(width, len(NAMES))})
    learner = torch.nn.ModuleDict({"encoder": encoder, "heads": heads})

    def loss(step: int, draw: torch.Generator) -> Any:
        chosen = torch.randint(len(seen.tags), (_BATCH,), generator=draw)
        stream = random.Random(f"{course.seed} {step}")
        texts = [caption(seen.names(int(at)), stream) for at in chosen]
        tokens, ends, named = lesson(texts, tokenizer)
        states = encoder(tokens).last_hidden_state
        ones = heads["one"](states).flatten(0, 1)
        single = torch.nn.functional.cross_entropy(ones, ends.flatten(), ignore_index=_NOTHING)
        behind = (tokens == tokenizer.eos_token_id).float()[..., None]
        alls = torch.nn.functional.binary_cross_entropy_with_logits(
            heads["all"](states), named[:, None].expand(-1, PLACES, -1), reduction="none"
        )
        return single + (alls * behind).sum() / behind.sum() / len(NAMES) * 20

    learner.train()
    practise(learner, loss, course, file)
    encoder.eval()


def lesson(texts: list[str], tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens (B, PLACES), the tag that ends at each of them or _NOTHING (B, PLACES), and all tags named (B, tags)."""
    import torch

    tokens = torch.full((len(texts), PLACES), tokenizer.eos_token_id)
    ends = torch.full((len(texts), PLACES), _NOTHING)
    named = torch.zeros(len(texts), len(NAMES))
    for row, text in enumerate(texts):
        ids = tokenizer(text, truncation=True, max_length=PLACES).input_ids
        tokens[row, : len(ids)] = torch.tensor(ids)
        at = 1
        for number, piece in enumerate(text.split(", ")):
            at += bool(number) + len(_ids(piece, tokenizer))  # a comma is a token of its own
            tag = _MEANT.get(piece.rpartition(" of ")[2] if number == 0 else piece)
            if tag is not None and at < len(ids):
                ends[row, at - 1] = tag
                named[row, tag] = 1
    return tokens, ends, named


def _ids(piece: str, tokenizer: Any) -> list[int]:
    found: list[int] = tokenizer(piece, add_special_tokens=False).input_ids
    return found
