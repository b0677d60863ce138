"""From a model's steps to a caption: drawing tokens, cutting at the end, and how sure the model was."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from taggers.captioners.captioner import PredictedCaption

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How tokens are chosen."""

    max_tokens: int
    min_tokens: int = 0
    num_beams: int = 1
    repetition_penalty: float = 1.0
    top_p: float | None = None  # None: the likeliest token, or beams; else drawn from the likeliest with this sum


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image as a model wants it."""

    pixels: torch.Tensor  # 3 x side x side
    seed: int  # of what is drawn for it


@dataclass(frozen=True, slots=True)
class TokenFormat:
    """What must be known of a model's tokens to read them."""

    tokenizer: Any
    end_tokens: tuple[int, ...]  # any of these ends a caption
    signature: str
    clean_up: Callable[[str], str]  # from decoded tokens to one line as people write it


@dataclass(frozen=True, slots=True)
class LoadedCaptioner:
    """A loaded model that sees a square and goes on from a few tokens, and what its images and answers go through."""

    model: Any
    image_processor: Callable[[list[np.ndarray]], Any]
    token_format: TokenFormat
    prompt_tokens: tuple[int, ...]  # tokens before the first new one, none of which is repeated in the caption
    new_tokens_start: int  # how many tokens the model's answer has before the new ones


def generate_captions(
    net: LoadedCaptioner, style: GenerationOptions, ready: Sequence[PreparedImage]
) -> list[PredictedCaption]:
    """What the model writes about the images, all at once."""
    import torch

    pixels = torch.stack([one.pixels for one in ready]).to(net.model.device, net.model.dtype)
    tokens = torch.tensor([net.prompt_tokens] * len(ready), device=net.model.device)
    generate = partial(
        net.model.generate, pixel_values=pixels, input_ids=tokens, attention_mask=torch.ones_like(tokens)
    )
    with torch.inference_mode():
        return decode_captions(
            net.token_format, *generate_tokens(generate, net.new_tokens_start, style, [one.seed for one in ready])
        )


def generate_tokens(generate: Callable[..., Any], start: int, style: GenerationOptions, seeds: list[int]) -> Any:
    """Call a model's `generate` in this style; new tokens begin at position `start` of its sequences.

    Returns the new tokens, B x T, and their log-probabilities. Drawing takes the likeliest token after
    adding to each logarithm a Gumbel noise of the image's own (E. J. Gumbel 1954; Maddison et al.,
    NeurIPS 2014): the same distribution, and other images of the batch do not matter.
    """
    out = generate(
        max_new_tokens=style.max_tokens,
        min_new_tokens=style.min_tokens or None,
        num_beams=style.num_beams,
        do_sample=False,
        repetition_penalty=style.repetition_penalty,
        logits_processor=None if style.top_p is None else [nucleus_sampler(style.top_p, seeds)],
        return_dict_in_generate=True,
        output_logits=True,
    )
    tokens = out.sequences[:, start:]
    return tokens, log_probabilities(out, tokens)


def log_probabilities(out: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The logarithm of each token's probability, by the model itself: B x T, before penalties and drawing."""
    import torch

    beams = getattr(out, "beam_indices", None)  # which row of each step the caption came through
    columns = []
    for step in range(tokens.shape[1]):
        logits = out.logits[step].float()
        rows = logits if beams is None else logits[beams[:, step].clamp(min=0)]
        columns.append(rows.log_softmax(-1).gather(1, tokens[:, step : step + 1]))
    return torch.cat(columns, 1).cpu() if columns else torch.zeros(len(tokens), 0)


def nucleus_sampler(top_p: float, seeds: list[int]) -> Callable[..., Any]:
    """A logits processor after which the largest score is a draw from the `top_p` nucleus, one generator an image."""
    import torch
    from transformers import TopPLogitsWarper

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    nucleus = TopPLogitsWarper(top_p)

    def draw(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        kept = nucleus(input_ids, scores.float())
        even = torch.stack([torch.rand(kept.shape[1], generator=g, dtype=torch.float64) for g in generators])
        noise = -torch.log(-torch.log(even.clamp(1e-300, 1 - 1e-16)))
        result: torch.Tensor = kept + noise.to(kept)
        return result

    return draw


def prepare_image(eye: Callable[[list[np.ndarray]], Any], seed: int, image: np.ndarray) -> PreparedImage:
    """An image through the model's eye, and what is drawn for it."""
    return PreparedImage(eye([image])[0], image_seed(seed, image))


def image_seed(seed: int, image: np.ndarray) -> int:
    """64 bits from sha256 of the seed, the image's size and its pixels."""
    hashed = hashlib.sha256(f"{seed} {image.shape}".encode() + image.tobytes())
    return int.from_bytes(hashed.digest()[:8], "big")


def decode_captions(form: TokenFormat, tokens: torch.Tensor, logs: torch.Tensor) -> list[PredictedCaption]:
    """Each row as a caption; its score is the geometric mean of its tokens' probabilities, the end's included.

    PrepError when the model gave nan.
    """
    said = []
    for row, values in zip(tokens.tolist(), logs.tolist(), strict=True):
        end = next((place for place, token in enumerate(row) if token in form.end_tokens), None)
        length = len(row) if end is None else end + 1
        total = sum(values[:length])
        if math.isnan(total):
            raise PrepError(
                f"{form.signature} gives scores that are not numbers (nan).",
                "Its weights are damaged, or the precision is too coarse for it: --precision float32",
            )
        text = form.tokenizer.decode(row[:length], skip_special_tokens=True)
        score = round(math.exp(total / length), 4) if length else None
        said.append(PredictedCaption(form.clean_up(text), score, end is None))
    return said


def one_line(text: str) -> str:
    """The text with single spaces between its words and no line ends."""
    return " ".join(text.split())


def detokenize(text: str) -> str:
    """A sentence of BERT's tokens as people write it: man's, t-shirt, "word"; other words stay as they are."""
    text = re.sub(r"(\w) ?' ?(s|t|re|ve|ll|d|m)\b(?! ')", r"\1'\2", one_line(text))
    text = re.sub(r"(?<=\w) - (?=\w)", "-", text)
    return re.sub(r'" ([^"]*?) "', r'"\1"', text)
