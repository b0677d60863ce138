"""Encodes captions with CLIP: in chunks of 75 tokens, each a prompt of its own, whose outputs are joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from pipeline.plural import counted
from training.models.family import EncodedText
from training.sampling.prompt.emphasis import WeightedText, parse_emphasis

if TYPE_CHECKING:
    import torch

    from training.models.family import TextSettings

CHUNK = 75  # tokens between start and end token: CLIP has 77 positions


@dataclass(frozen=True, slots=True)
class WeightedTokens:
    """Tokenized captions, in n chunks each."""

    ids: torch.Tensor  # (B, n, 77)
    weights: torch.Tensor | None  # (B, 75 n + 2), factors of the encoder's output; None: all are 1


def chunk_tokens(tokenizer: Any, captions: list[str], settings: TextSettings) -> WeightedTokens:
    """The tokens of captions, truncated to the limit of the settings.

    Each chunk begins with the start token; the end token follows its last token, also where the caption continues in
    the next chunk, and the rest is padding. A chunk without tokens is an empty prompt.
    """
    import torch

    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    rows, weights = [], []
    for caption in captions:
        ids, factors = (values[: settings.tokens] for values in _tokenize(tokenizer, caption, settings))
        for begin in range(0, settings.tokens, CHUNK):
            chunk = ids[begin : begin + CHUNK]
            rows.append([start, *chunk, end, *[pad] * (CHUNK - len(chunk))])
        weights.append([1.0, *factors, *[1.0] * (settings.tokens - len(factors)), 1.0])
    unweighted = all(weight == 1.0 for row in weights for weight in row)
    chunks = torch.tensor(rows).view(len(captions), -1, CHUNK + 2)
    return WeightedTokens(chunks, None if unweighted else torch.tensor(weights))


def _tokenize(tokenizer: Any, caption: str, settings: TextSettings) -> tuple[list[int], list[float]]:
    """All tokens of a caption, and the weight of each."""
    ids: list[int] = []
    weights: list[float] = []
    for part in parse_emphasis(caption, breaks=False) if settings.weighted else [WeightedText(caption, 1.0)]:
        tokens = tokenizer(part.text, add_special_tokens=False, truncation=False).input_ids
        ids += tokens
        weights += [part.weight] * len(tokens)
    return ids, weights


def apply_weights(text: torch.Tensor, tokens: WeightedTokens) -> torch.Tensor:
    """The output for each token (B, tokens + 2, width) times its weight, as in kohya's sd-scripts and ComfyUI.

    The mean is not restored, as it is in AUTOMATIC1111's WebUI, which changes the outputs of all other tokens.
    """
    return text if tokens.weights is None else text * tokens.weights.to(text.device, text.dtype)[:, :, None]


def join_chunks(hidden: torch.Tensor, count: int) -> torch.Tensor:
    """Encoded chunks (B * count, 77, width) as (B, 75 count + 2, width): one start and end, and all tokens between."""
    import torch

    chunks = hidden.view(-1, count, *hidden.shape[1:])
    tokens = chunks[:, :, 1:-1].flatten(1, 2)
    return torch.cat([chunks[:, 0, :1], tokens, chunks[:, -1, -1:]], dim=1)


def encode_last(encoder: Any, tokens: torch.Tensor, clip_skip: int) -> EncodedText:
    """The output of the layer that `clip_skip` names after the final layer norm, for chunks (B, 77)."""
    if clip_skip == 1:
        return EncodedText(encoder(tokens).last_hidden_state)
    check_depth(clip_skip, encoder.config.num_hidden_layers)
    inner = getattr(encoder, "text_model", encoder)  # a level that transformers 5.6 has removed
    hidden = encoder(tokens, output_hidden_states=True).hidden_states[-clip_skip]
    return EncodedText(inner.final_layer_norm(hidden))


def encode_penultimate(encoder: Any, tokens: torch.Tensor) -> EncodedText:
    """The last layer but one without layer norm, for chunks (B, 77), and the pooled output.

    The pooled output is projected where the encoder has a projection.
    """
    output = encoder(tokens, output_hidden_states=True)
    pooled = output.text_embeds if hasattr(output, "text_embeds") else output.pooler_output
    return EncodedText(output.hidden_states[-2], pooled)


def last_layers(tokenizer: Any, encoder: Any, captions: list[str], settings: TextSettings) -> torch.Tensor:
    """The output of the layer that clip_skip names after the final layer norm, (B, tokens + 2, width)."""
    tokens = chunk_tokens(tokenizer, captions, settings)
    count, flat = tokens.ids.shape[1], tokens.ids.flatten(0, 1).to(encoder.device)
    return apply_weights(join_chunks(encode_last(encoder, flat, settings.clip_skip).text, count), tokens)


def penultimate(
    tokenizer: Any, encoder: Any, captions: list[str], settings: TextSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The last layer but one without layer norm (B, tokens + 2, width), and the first chunk's pooled output."""
    tokens = chunk_tokens(tokenizer, captions, settings)
    count = tokens.ids.shape[1]
    output = encode_penultimate(encoder, tokens.ids.flatten(0, 1).to(encoder.device))
    assert output.pooled is not None
    return apply_weights(join_chunks(output.text, count), tokens), output.pooled[::count]


def too_long(tokenizer: Any, caption: str, settings: TextSettings) -> bool:
    """Whether a caption has more tokens than the settings allow."""
    return len(_tokenize(tokenizer, caption, settings)[0]) > settings.tokens


def check_depth(clip_skip: int, layers: int) -> None:
    """Raise PrepError for a clip skip beyond the text encoder's first layer."""
    if clip_skip > layers:
        raise PrepError(
            f"--clip-skip {clip_skip} is too large: the base model's text encoder has {counted(layers, 'layer')}.",
            f"Use at most --clip-skip {layers}; usual: 1 or 2.",
        )


def refuse_clip_skip(settings: TextSettings, title: str) -> None:
    """Raise PrepError for clip_skip with a family that always uses one layer."""
    if settings.clip_skip > 1:
        raise PrepError(
            f"train: --clip-skip {settings.clip_skip} has no effect: {title} always uses the same layer.",
            "Leave it out; it is for Stable Diffusion 1.x only.",
        )
