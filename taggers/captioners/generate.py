"""Caption generation of BLIP and GIT: choosing tokens, decoding them, and the score of a caption."""

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
    top_p: float | None = None  # None: greedy or beam search; else nucleus sampling


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """The model's input for one image."""

    pixels: torch.Tensor  # 3 x side x side
    seed: int  # of its nucleus sampling


@dataclass(frozen=True, slots=True)
class TokenFormat:
    """How a model's tokens are decoded."""

    tokenizer: Any
    end_tokens: tuple[int, ...]  # each of them ends a caption
    signature: str
    clean_up: Callable[[str], str]  # from decoded tokens to one line in usual spelling


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """The tokens before a caption, and where the model's output continues them."""

    tokens: tuple[int, ...]
    new_tokens_start: int  # how many tokens of the model's output come before the new ones
    end_tokens: tuple[int, ...]  # of the captions


@dataclass(frozen=True, slots=True)
class LoadedCaptioner:
    """A loaded model that takes square images and prompt tokens."""

    model: Any
    image_processor: Callable[[list[np.ndarray]], Any]
    token_format: TokenFormat
    prompt: PromptTokens


def generate_captions(
    captioner: LoadedCaptioner, options: GenerationOptions, images: Sequence[PreparedImage]
) -> list[PredictedCaption]:
    """The captions of the images, in one batch."""
    import torch

    pixels = torch.stack([image.pixels for image in images]).to(captioner.model.device, captioner.model.dtype)
    tokens = torch.tensor([captioner.prompt.tokens] * len(images), device=captioner.model.device)
    generate = partial(
        captioner.model.generate, pixel_values=pixels, input_ids=tokens, attention_mask=torch.ones_like(tokens)
    )
    with torch.inference_mode():
        new_tokens, log_probs = generate_tokens(
            generate, captioner.prompt.new_tokens_start, options, [image.seed for image in images]
        )
    return decode_captions(captioner.token_format, new_tokens, log_probs)


def generate_tokens(
    generate: Callable[..., Any], start: int, options: GenerationOptions, seeds: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The new tokens, B x T, and their log-probabilities; `start` is where they begin in the model's output.

    Nucleus sampling (Holtzman et al., 2020) adds to each log-probability Gumbel noise of the image's own generator
    and takes the largest sum (Maddison et al., NeurIPS 2014): the same distribution as sampling, and independent of
    the other images in the batch.
    """
    output = generate(
        max_new_tokens=options.max_tokens,
        min_new_tokens=options.min_tokens or None,
        num_beams=options.num_beams,
        do_sample=False,
        repetition_penalty=options.repetition_penalty,
        logits_processor=None if options.top_p is None else [nucleus_sampler(options.top_p, seeds)],
        return_dict_in_generate=True,
        output_logits=True,
    )
    tokens = output.sequences[:, start:]
    return tokens, log_probabilities(output, tokens)


def log_probabilities(output: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The log-probability of each token, B x T, before penalties and sampling."""
    import torch

    beams = getattr(output, "beam_indices", None)  # which row of each step belongs to the caption
    columns = []
    for step in range(tokens.shape[1]):
        logits = output.logits[step].float()
        rows = logits if beams is None else logits[beams[:, step].clamp(min=0)]
        columns.append(rows.log_softmax(-1).gather(1, tokens[:, step : step + 1]))
    return torch.cat(columns, 1).cpu() if columns else torch.zeros(len(tokens), 0)


def nucleus_sampler(top_p: float, seeds: list[int]) -> Callable[..., Any]:
    """A logits processor after which the largest score is a sample of the `top_p` nucleus, one generator per image."""
    import torch
    from transformers import TopPLogitsWarper

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    nucleus = TopPLogitsWarper(top_p)

    def add_noise(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        kept = nucleus(input_ids, scores.float())
        even = torch.stack([torch.rand(kept.shape[1], generator=g, dtype=torch.float64) for g in generators])
        gumbel = -torch.log(-torch.log(even.clamp(1e-300, 1 - 1e-16)))
        noisy: torch.Tensor = kept + gumbel.to(kept)
        return noisy

    return add_noise


def prepare_image(image_processor: Callable[[list[np.ndarray]], Any], seed: int, image: np.ndarray) -> PreparedImage:
    """The model's input for an image, and the seed of its sampling."""
    return PreparedImage(image_processor([image])[0], image_seed(seed, image))


def image_seed(seed: int, image: np.ndarray) -> int:
    """64 bits of a sha256 of the seed, the image's size and its pixels."""
    digest = hashlib.sha256(f"{seed} {image.shape}".encode() + image.tobytes()).digest()
    return int.from_bytes(digest[:8], "big")


def decode_captions(token_format: TokenFormat, tokens: torch.Tensor, log_probs: torch.Tensor) -> list[PredictedCaption]:
    """Each row as a caption; its score is the geometric mean of its tokens' probabilities, end token included.

    PrepError when the model gave nan.
    """
    captions = []
    for row, values in zip(tokens.tolist(), log_probs.tolist(), strict=True):
        end = next((position for position, token in enumerate(row) if token in token_format.end_tokens), None)
        length = len(row) if end is None else end + 1
        total = sum(values[:length])
        if math.isnan(total):
            raise PrepError(
                f"{token_format.signature} gives scores that are not numbers (nan).",
                "Its weights are damaged, or need more precision: --precision float32",
            )
        text = token_format.tokenizer.decode(row[:length], skip_special_tokens=True)
        score = round(math.exp(total / length), 4) if length else None
        captions.append(PredictedCaption(token_format.clean_up(text), score, end is None))
    return captions


def one_line(text: str) -> str:
    """The text with single spaces between its words and no line breaks."""
    return " ".join(text.split())


def detokenize(text: str) -> str:
    """A sentence of BERT's tokens in usual spelling: man's, t-shirt, "word"; other words stay as they are."""
    text = re.sub(r"(\w) ?' ?(s|t|re|ve|ll|d|m)\b(?! ')", r"\1'\2", one_line(text))
    text = re.sub(r"(?<=\w) - (?=\w)", "-", text)
    return re.sub(r'" ([^"]*?) "', r'"\1"', text)
