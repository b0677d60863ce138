"""BLIP: captions by Salesforce's BLIP (base, large) or BLIP-2."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from pipeline.adaptive_batches import AdaptiveBatcher
from pipeline.errors import PrepError
from pipeline.models.store import LocalModel
from pipeline.record import Annotation
from pipeline.stage import option
from pipeline.workspace import Workspace
from taggers.captioners.captioner import BeamCaptioner, PredictedCaption
from taggers.captioners.generate import (
    GenerationOptions,
    LoadedCaptioner,
    PreparedImage,
    PromptTokens,
    TokenFormat,
    detokenize,
    generate_captions,
    one_line,
    prepare_image,
)
from taggers.captioners.model_folder import check_model_class, find_model_folder, load_parts, repair_hint
from taggers.tagger import PredictFn, PreparedPredictor

BLIP, BLIP2 = "BlipForConditionalGeneration", "Blip2ForConditionalGeneration"
AUTO = "auto"
AUTHORS_PROMPT = "a picture of"  # its tokens are left out of the loss (github.com/salesforce/BLIP, models/blip.py)
AUTHORS_PENALTY = 1.1  # on repetitions in nucleus sampling (the same file, generate)
# dtypes in which Salesforce runs BLIP-2's language models (LAVIS, blip2_opt.py and blip2_t5.py).
GPU_PRECISION = {"opt": "float16", "t5": "bfloat16"}


@dataclass(frozen=True, kw_only=True)
class Blip(BeamCaptioner):
    """Captions by BLIP or BLIP-2, one sentence per image; deterministic, with --sample too.

    The score is the geometric mean of the probabilities of the caption's tokens.
    """

    name: ClassVar[str] = "blip"

    model: str = option(
        "Salesforce/blip-image-captioning-large",
        "Model: a name from 'prep models list', a hub id such as Salesforce/blip-image-captioning-base or "
        "Salesforce/blip2-opt-2.7b, or a folder with its files. Relative paths start at the workspace.",
        cache_key=False,
        metavar="MODEL",
    )
    sample: bool = option(
        False, "Nucleus sampling instead of the most probable words; reproducible by image and --seed."
    )
    top_p: float = option(
        0.9, "With --sample: sample from the most probable tokens with this total probability.", low=0.01, high=1
    )
    seed: int = option(0, "With --sample: seed of the random numbers.")
    min_tokens: int = option(0, "Fewest tokens of a caption; BLIP repeats itself when it must write more.", low=0)
    repetition_penalty: float = option(
        0.0,
        "Penalty on tokens that the caption has already; 1: none, usually up to 1.5; 0: 1.1 for BLIP with --sample, "
        "as its authors have it, else none.",
        low=0,
        high=10,
    )
    prompt: str = option(
        AUTO,
        "Beginning of the caption that the model continues, such as 'a photo of'; it is cut off again. auto: "
        f"'{AUTHORS_PROMPT}' for BLIP, with which it was trained, and none for BLIP-2. An empty text: none.",
        metavar="TEXT",
    )
    keep_prompt: bool = option(False, "Keep the prompt's words in the caption.")

    def check(self) -> None:
        if self.sample and self.num_beams > 1:
            raise PrepError("blip: sample and num-beams exclude each other.", "Leave out --sample or --num-beams.")
        if 0 < self.repetition_penalty < 1:
            raise PrepError(
                f"blip: repetition-penalty is {self.repetition_penalty:g}, which would reward repetitions.",
                "It must be 0 or from 1 to 10.",
            )
        if self.min_tokens > self.max_tokens:
            raise PrepError(
                f"blip: min-tokens is {self.min_tokens}, more than max-tokens, {self.max_tokens}.",
                "Lower --min-tokens or raise --max-tokens.",
            )

    def load(self, workspace: Workspace) -> PredictFn:
        captioner = load_blip(self, workspace)
        options = self.for_model(captioner.model.config.model_type)
        batcher = AdaptiveBatcher(self.inference_batch_size, self.signature)
        return PreparedPredictor(
            partial(prepare_image, captioner.image_processor, self.seed),
            partial(caption_images, options, captioner, batcher),
        )

    def for_model(self, model_type: str) -> Blip:
        """The options with the authors' values for a model of this type in place of auto and 0."""
        is_blip = model_type == "blip"
        prompt = (AUTHORS_PROMPT if is_blip else "") if self.prompt == AUTO else self.prompt
        authors = AUTHORS_PENALTY if is_blip and self.sample else 1.0
        return replace(self, prompt=prompt, repetition_penalty=self.repetition_penalty or authors)


def load_blip(blip: Blip, workspace: Workspace) -> LoadedCaptioner:
    """Load the model; PrepError when the folder has no BLIP captioner, or an old format of one."""
    found = find_model_folder(blip.model, workspace)
    name = check_model_class(found, (BLIP, BLIP2), "blip")
    parts = load_parts(found, name, blip.device, blip.precision, GPU_PRECISION)
    config = parts.model.config
    text = blip.for_model(config.model_type).prompt
    if name == BLIP:
        prompt, clean_up = _blip_prompt(config, parts.tokenizer, text), detokenize
    else:
        token = image_token(found, config, len(parts.tokenizer))
        prompt, clean_up = _blip2_prompt(config, parts.tokenizer, text, token), one_line
    token_format = TokenFormat(parts.tokenizer, prompt.end_tokens, blip.signature, clean_up)
    return LoadedCaptioner(parts.model, parts.image_processor, token_format, prompt)


def _blip_prompt(config: Any, tokenizer: Any, prompt: str) -> PromptTokens:
    """BLIP's prompt begins with its own token; its `generate` drops the last one, the end token."""
    text = config.text_config
    tokens = (text.bos_token_id, *tokenizer(prompt)["input_ids"][1:])
    return PromptTokens(tokens, len(tokens) - 1, (text.sep_token_id,))


def _blip2_prompt(config: Any, tokenizer: Any, prompt: str, token: int) -> PromptTokens:
    """BLIP-2's prompt begins with one image token per query; with an encoder the output does not repeat it."""
    config.image_token_index = token
    tokens = (token,) * config.num_query_tokens + tuple(tokenizer(prompt)["input_ids"])
    start = 1 if config.text_config.is_encoder_decoder else len(tokens)
    ends = config.text_config.eos_token_id
    return PromptTokens(tokens, start, tuple(ends) if isinstance(ends, list) else (ends,))


def image_token(found: LocalModel, config: Any, vocabulary: int) -> int:
    """The token that stands for a query in BLIP-2's prompt; PrepError when there is none.

    Old revisions do not name it. Their embeddings have unused rows after the `vocabulary` tokens, of which newer
    revisions take the first (50265 in blip2-opt); its embedding is never used.
    """
    if config.image_token_index is not None:
        return int(config.image_token_index)
    if vocabulary < config.text_config.vocab_size:
        return vocabulary
    raise PrepError(
        f"{found.folder / 'config.json'} has no image_token_index, and no token is free for it.", repair_hint(found)
    )


def caption_images(
    blip: Blip, captioner: LoadedCaptioner, batcher: AdaptiveBatcher, images: list[PreparedImage]
) -> list[list[Annotation]]:
    """A caption of each image."""
    top_p = blip.top_p if blip.sample else None
    options = GenerationOptions(blip.max_tokens, blip.min_tokens, blip.num_beams, blip.repetition_penalty, top_p)
    captions = batcher.run(partial(generate_captions, captioner, options), images)
    return blip.caption_annotations([_with_prompt(caption, blip) for caption in captions])


def _with_prompt(caption: PredictedCaption, blip: Blip) -> PredictedCaption:
    if not (blip.keep_prompt and blip.prompt):
        return caption
    return replace(caption, text=f"{blip.prompt.strip()} {caption.text}".strip())
