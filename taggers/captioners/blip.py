"""BLIP: a sentence about each image, from Salesforce's BLIP (base, large) or BLIP-2."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from pipeline.adaptive_batches import AdaptiveBatcher
from pipeline.errors import PrepError
from pipeline.models.store import LocalModel
from pipeline.record import Annotation
from pipeline.stage import option
from pipeline.workspace import Workspace
from taggers.captioners.captioner import (
    BeamCaptioner,
    PredictedCaption,
    check_model_class,
    find_model_folder,
    load_parts,
    repair_hint,
)
from taggers.captioners.generate import (
    GenerationOptions,
    LoadedCaptioner,
    PreparedImage,
    TokenFormat,
    detokenize,
    generate_captions,
    one_line,
    prepare_image,
)
from taggers.tagger import PredictFn, PreparedPredictor

BLIP, BLIP2 = "BlipForConditionalGeneration", "Blip2ForConditionalGeneration"
# What Salesforce ran BLIP-2's language models with (LAVIS, blip2_opt.py and blip2_t5.py).
GPU_PRECISION = {"opt": "float16", "t5": "bfloat16"}


@dataclass(frozen=True, kw_only=True)
class Blip(BeamCaptioner):
    """A sentence about each image from BLIP or BLIP-2: greedy and the same each time, unless told otherwise.

    The score is the geometric mean of the probabilities of the caption's tokens.
    """

    name: ClassVar[str] = "blip"

    model: str = option(
        "Salesforce/blip-image-captioning-large",
        "Model: a name from 'prep models list', a hub id such as Salesforce/blip-image-captioning-base or "
        "Salesforce/blip2-opt-2.7b, or a folder with its files; a relative path starts at the workspace.",
        cache_key=False,
        metavar="MODEL",
    )
    sample: bool = option(False, "Draw words at random instead, the same ones for the same image and seed.")
    top_p: float = option(
        0.9, "With sample: draw from the likeliest words that have this probability.", low=0.01, high=1
    )
    seed: int = option(0, "With sample: another number gives other captions.")
    min_tokens: int = option(0, "Fewest tokens in a caption; forcing more makes BLIP repeat itself.", low=0)
    repetition_penalty: float = option(1.0, "Above 1, words that were already said become less likely.", low=1, high=10)
    prompt: str = option("", "Words that the caption goes on from, such as 'a photo of'.")
    keep_prompt: bool = option(False, "Leave the prompt's words in the caption.")

    def check(self) -> None:
        if self.sample and self.num_beams > 1:
            raise PrepError("blip: sample and beams exclude each other.", "Give one of --sample and --beams.")
        if self.min_tokens > self.max_tokens:
            raise PrepError(
                f"blip: min_tokens {self.min_tokens} is more than max_tokens {self.max_tokens}.", "Lower one of them."
            )

    def load(self, workspace: Workspace) -> PredictFn:
        net = load_blip(self, workspace)
        pieces = AdaptiveBatcher(self.inference_batch_size, self.signature)
        return PreparedPredictor(
            partial(prepare_image, net.image_processor, self.seed), partial(caption_images, pieces, net, self)
        )


def load_blip(blip: Blip, workspace: Workspace) -> LoadedCaptioner:
    """Load the model; PrepError when the folder holds no BLIP captioner or an old form of it."""
    found = find_model_folder(blip.model, workspace)
    name = check_model_class(found, (BLIP, BLIP2), "blip")
    parts = load_parts(found, name, blip, GPU_PRECISION)
    rules = _blip if name == BLIP else _blip2
    prompt, start, ends = rules(found, parts.model.config, parts.tokenizer, blip.prompt)
    form = TokenFormat(parts.tokenizer, ends, blip.signature, detokenize if name == BLIP else one_line)
    return LoadedCaptioner(parts.model, parts.image_processor, form, prompt, start)


def _blip(found: LocalModel, config: Any, tokenizer: Any, prompt: str) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """BLIP's prompt starts with its own token; its `generate` cuts the last one, which stands for the end."""
    text = config.text_config
    tokens = (text.bos_token_id, *tokenizer(prompt)["input_ids"][1:])
    return tokens, len(tokens) - 1, (text.sep_token_id,)


def _blip2(found: LocalModel, config: Any, tokenizer: Any, prompt: str) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """BLIP-2's prompt starts with a place for every query; an encoder's prompt is no part of the answer."""
    config.image_token_index = place = image_token(found, config, len(tokenizer))
    tokens = (place,) * config.num_query_tokens + tuple(tokenizer(prompt)["input_ids"])
    ends = config.text_config.eos_token_id
    start = 1 if config.text_config.is_encoder_decoder else len(tokens)
    return tokens, start, tuple(ends) if isinstance(ends, list) else (ends,)


def image_token(found: LocalModel, config: Any, known: int) -> int:
    """The token that keeps a query's place in BLIP-2's prompt; PrepError when there is none.

    Old revisions name none. Their vocabularies have rows to spare after the `known` tokens, of which
    newer revisions took the first (50265 in blip2-opt); its own vector is never read.
    """
    if config.image_token_index is not None:
        return int(config.image_token_index)
    if known < config.text_config.vocab_size:
        return known
    raise PrepError(
        f"{found.folder / 'config.json'} has no image_token_index, and no token is free for it.", repair_hint(found)
    )


def caption_images(
    pieces: AdaptiveBatcher, net: LoadedCaptioner, blip: Blip, ready: list[PreparedImage]
) -> list[list[Annotation]]:
    """A caption of each image."""
    top_p = blip.top_p if blip.sample else None
    style = GenerationOptions(blip.max_tokens, blip.min_tokens, blip.num_beams, blip.repetition_penalty, top_p)
    said = pieces.run(partial(generate_captions, net, style), ready)
    return blip.caption_annotations([_with_prompt(one, blip) for one in said])


def _with_prompt(said: PredictedCaption, blip: Blip) -> PredictedCaption:
    if not (blip.keep_prompt and blip.prompt):
        return said
    return PredictedCaption(f"{blip.prompt.strip()} {said.text}".strip(), said.score, said.truncated)
