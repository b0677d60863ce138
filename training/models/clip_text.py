"""Captions through CLIP: in pieces of 75 tokens, each as a prompt of its own, put together again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.data.prompt_weighting import WeightedText, parse_weights

if TYPE_CHECKING:
    import torch

    from training.models.family import TextSettings

PIECE = 75  # tokens between start and end: CLIP's 77 places


@dataclass(frozen=True, slots=True)
class WeightedTokens:
    """Captions as CLIP is given them, in pieces."""

    ids: torch.Tensor  # (B, n, 77)
    weights: torch.Tensor | None  # (B, 75 n + 2), by which what comes out is multiplied; None: all are 1


def pieces(tokenizer: Any, captions: list[str], settings: TextSettings) -> WeightedTokens:
    """The tokens of captions; what is beyond the limit is cut off.

    Each piece begins with the start token; the end token follows its last word, also where the
    caption goes on, and what is left is padded. A piece without words is an empty prompt.
    """
    import torch

    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    rows, weights = [], []
    for caption in captions:
        found, counts = _weighed(tokenizer, caption, settings)
        for at in range(0, settings.tokens, PIECE):
            words = found[: settings.tokens][at : at + PIECE]
            rows.append([start, *words, end, *[pad] * (PIECE - len(words))])
        counts = counts[: settings.tokens]
        weights.append([1.0, *counts, *[1.0] * (settings.tokens - len(counts)), 1.0])
    plain = all(weight == 1.0 for row in weights for weight in row)
    ids = torch.tensor(rows).view(len(captions), -1, PIECE + 2)
    return WeightedTokens(ids, None if plain else torch.tensor(weights))


def _weighed(tokenizer: Any, caption: str, settings: TextSettings) -> tuple[list[int], list[float]]:
    """All tokens of a caption, and the weight of each."""
    ids: list[int] = []
    weights: list[float] = []
    for part in parse_weights(caption) if settings.weighted else [WeightedText(caption, 1.0)]:
        found = tokenizer(part.text, add_special_tokens=False, truncation=False).input_ids
        ids += found
        weights += [part.weight] * len(found)
    return ids, weights


def weighed(text: torch.Tensor, tokens: WeightedTokens) -> torch.Tensor:
    """Each token's output (B, tokens + 2, width) times its weight, as kohya and ComfyUI do.

    The mean is left where it comes to lie; WebUI moves it back, which changes all other tokens.
    """
    return text if tokens.weights is None else text * tokens.weights.to(text.device, text.dtype)[:, :, None]


def joined(hidden: torch.Tensor, count: int) -> torch.Tensor:
    """Encoded pieces (B * n, 77, width) as (B, 75 n + 2, width): the first's start, all words, the last's end."""
    import torch

    split = hidden.view(-1, count, *hidden.shape[1:])
    words = split[:, :, 1:-1].flatten(1, 2)
    return torch.cat([split[:, 0, :1], words, split[:, -1, -1:]], dim=1)


def last_layers(tokenizer: Any, encoder: Any, captions: list[str], settings: TextSettings) -> torch.Tensor:
    """The layer that clip_skip names, then the final normalisation: (B, tokens + 2, width)."""
    tokens = pieces(tokenizer, captions, settings)
    count, flat = tokens.ids.shape[1], tokens.ids.flatten(0, 1).to(encoder.device)
    if settings.clip_skip == 1:
        return weighed(joined(encoder(flat).last_hidden_state, count), tokens)
    inner = getattr(encoder, "text_model", encoder)  # transformers before 5.6 has one level more
    hidden = encoder(flat, output_hidden_states=True).hidden_states[-settings.clip_skip]
    return weighed(joined(inner.final_layer_norm(hidden), count), tokens)


def penultimate(
    tokenizer: Any, encoder: Any, captions: list[str], settings: TextSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The last layer but one, not normalised (B, tokens + 2, width), and the first piece's summary (B, width).

    The summary is projected where the encoder has a projection.
    """
    tokens = pieces(tokenizer, captions, settings)
    count = tokens.ids.shape[1]
    found = encoder(tokens.ids.flatten(0, 1).to(encoder.device), output_hidden_states=True)
    summary = found.text_embeds if hasattr(found, "text_embeds") else found.pooler_output
    return weighed(joined(found.hidden_states[-2], count), tokens), summary[::count]


def too_long(tokenizer: Any, caption: str, settings: TextSettings) -> bool:
    return len(_weighed(tokenizer, caption, settings)[0]) > settings.tokens


def refuse_clip_skip(settings: TextSettings, title: str) -> None:
    if settings.clip_skip > 1:
        raise PrepError(
            f"train: clip_skip is {settings.clip_skip}, but {title} always takes the layer it was made with.",
            "Leave it out; it is for Stable Diffusion 1.x only.",
        )
