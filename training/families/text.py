"""Captions through CLIP: in pieces of 75 tokens, each as a prompt of its own, put together again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError

if TYPE_CHECKING:
    import torch

    from training.families.family import TextSettings

PIECE = 75  # tokens between start and end: CLIP's 77 places


def pieces(tokenizer: Any, captions: list[str], tokens: int) -> torch.Tensor:
    """Token numbers (B, tokens / 75, 77) of captions; what is beyond `tokens` is cut off.

    Each piece begins with the start token; the end token follows its last word, also where the
    caption goes on, and what is left is padded. A piece without words is an empty prompt.
    """
    import torch

    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    rows = []
    for found in tokenizer(captions, add_special_tokens=False, truncation=False).input_ids if captions else ():
        for at in range(0, tokens, PIECE):
            words = found[at : min(at + PIECE, tokens)]
            rows.append([start, *words, end, *[pad] * (PIECE - len(words))])
    return torch.tensor(rows).view(len(captions), -1, PIECE + 2)


def joined(hidden: torch.Tensor, count: int) -> torch.Tensor:
    """Encoded pieces (B * n, 77, width) as (B, 75 n + 2, width): the first's start, all words, the last's end."""
    import torch

    split = hidden.view(-1, count, *hidden.shape[1:])
    words = split[:, :, 1:-1].flatten(1, 2)
    return torch.cat([split[:, 0, :1], words, split[:, -1, -1:]], dim=1)


def last_layers(tokenizer: Any, encoder: Any, captions: list[str], settings: TextSettings) -> torch.Tensor:
    """The layer that clip_skip names, then the final normalisation: (B, tokens + 2, width)."""
    ids = pieces(tokenizer, captions, settings.tokens)
    flat = ids.flatten(0, 1).to(encoder.device)
    if settings.clip_skip == 1:
        return joined(encoder(flat).last_hidden_state, ids.shape[1])
    inner = getattr(encoder, "text_model", encoder)  # transformers before 5.6 has one level more
    hidden = encoder(flat, output_hidden_states=True).hidden_states[-settings.clip_skip]
    return joined(inner.final_layer_norm(hidden), ids.shape[1])


def penultimate(
    tokenizer: Any, encoder: Any, captions: list[str], settings: TextSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The last layer but one, not normalised (B, tokens + 2, width), and the first piece's summary (B, width).

    The summary is projected where the encoder has a projection.
    """
    ids = pieces(tokenizer, captions, settings.tokens)
    found = encoder(ids.flatten(0, 1).to(encoder.device), output_hidden_states=True)
    summary = found.text_embeds if hasattr(found, "text_embeds") else found.pooler_output
    return joined(found.hidden_states[-2], ids.shape[1]), summary[:: ids.shape[1]]


def too_long(tokenizer: Any, caption: str, settings: TextSettings) -> bool:
    return len(tokenizer(caption, add_special_tokens=False).input_ids) > settings.tokens


def refuse_clip_skip(settings: TextSettings, title: str) -> None:
    if settings.clip_skip > 1:
        raise PrepError(
            f"train: clip_skip is {settings.clip_skip}, but {title} always takes the layer it was made with.",
            "Leave it out; it is for Stable Diffusion 1.x only.",
        )
