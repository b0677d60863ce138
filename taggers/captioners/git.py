"""GIT: captions by Microsoft's GIT, without the phrases about writing that its textcaps models imagine."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipeline.adaptive_batches import AdaptiveBatcher
from pipeline.errors import PrepError
from pipeline.models.catalog import short_name
from pipeline.record import Annotation
from pipeline.stage import option
from pipeline.workspace import Workspace
from taggers.captioners.captioner import BeamCaptioner
from taggers.captioners.generate import (
    GenerationOptions,
    LoadedCaptioner,
    PreparedImage,
    PromptTokens,
    TokenFormat,
    detokenize,
    generate_captions,
)
from taggers.captioners.model_folder import CONFIG, check_model_class, find_model_folder, load_parts, read_json
from taggers.tagger import PredictFn, PreparedPredictor

if TYPE_CHECKING:
    import numpy as np

GIT = "GitForCausalLM"
Padding = Literal["crop", "edge", "white"]


@dataclass(frozen=True, kw_only=True)
class Git(BeamCaptioner):
    """Captions by Microsoft's GIT (base, large; coco, textcaps), one sentence per image; deterministic.

    The score is the geometric mean of the probabilities of the caption's tokens, before words are removed.
    """

    name: ClassVar[str] = "git"

    model: str = option(
        "microsoft/git-large-coco",
        "Model: a name from 'prep models list', a hub id such as microsoft/git-base-coco or "
        "microsoft/git-large-textcaps, or a folder with its files. Relative paths start at the workspace.",
        cache_key=False,
        metavar="MODEL",
    )
    pad: Literal["crop", "edge", "white"] = option(
        "crop",
        "How images become square: crop, their center, as in GIT's training; edge or white, whole with margins in the "
        "color of their edges or in white.",
    )
    remove_words: Literal["auto", "on", "off"] = option(
        "auto",
        "Remove phrases such as 'with the words ... on it', as kohya's --remove_words; auto: of textcaps models.",
    )

    def load(self, workspace: Workspace) -> PredictFn:
        captioner = load_git(self, workspace)
        batcher = AdaptiveBatcher(self.inference_batch_size, self.signature)
        return PreparedPredictor(
            partial(prepare_image, captioner.image_processor, self.pad),
            partial(caption_images, self, captioner, batcher),
        )

    @property
    def removes_words(self) -> bool:
        name = self.model_name or short_name(self.model)
        return self.remove_words == "on" or (self.remove_words == "auto" and "textcaps" in name)


def load_git(git: Git, workspace: Workspace) -> LoadedCaptioner:
    """Load the model; PrepError when the folder has none that captions single images."""
    found = find_model_folder(git.model, workspace)
    check_model_class(found, (GIT,), "git")
    if read_json(found, CONFIG).get("num_image_with_embedding"):
        raise PrepError(
            f"{found.name} captions videos, not images.", "Use one for images: prep models pull git-large-coco"
        )
    parts = load_parts(found, GIT, git.device, git.precision, {})
    config = parts.model.config
    prompt = PromptTokens((config.bos_token_id,), 1, (config.eos_token_id,))
    token_format = TokenFormat(parts.tokenizer, prompt.end_tokens, git.signature, detokenize)
    return LoadedCaptioner(parts.model, parts.image_processor, token_format, prompt)


def prepare_image(image_processor: Callable[[list[np.ndarray]], Any], pad: Padding, image: np.ndarray) -> PreparedImage:
    """The model's input for an image: its center, or the whole image with margins."""
    return PreparedImage(image_processor([image if pad == "crop" else letterbox(image, pad)])[0], 0)


def caption_images(
    git: Git, captioner: LoadedCaptioner, batcher: AdaptiveBatcher, images: list[PreparedImage]
) -> list[list[Annotation]]:
    """A caption of each image."""
    options = GenerationOptions(git.max_tokens, num_beams=git.num_beams)
    captions = batcher.run(partial(generate_captions, captioner, options), images)
    if git.removes_words:
        captions = [replace(caption, text=remove_writing(caption.text)) for caption in captions]
    return git.caption_annotations(captions)


def letterbox(image: np.ndarray, fill: Literal["edge", "white"]) -> np.ndarray:
    """The image centered in a square, each margin in white or in the median color of the edge next to it."""
    import numpy as np

    height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side, 3), 255, np.uint8)
    if fill == "edge":
        wide = width >= height
        first, last = (image[0], image[-1]) if wide else (image[:, 0], image[:, -1])
        before, after = (np.s_[:top], np.s_[top:]) if wide else (np.s_[:, :left], np.s_[:, left:])
        square[before], square[after] = np.median(first, axis=0), np.median(last, axis=0)
    square[top : top + height, left : left + width] = image
    return square


# The phrases in which textcaps models imagine writing, in parts. The writing is quoted (an open quote goes to the
# end), or a few words before the place that has it or before the end, or one word.
_NOUN = r"(?:words?|letters?|names?|numbers?|text|phrase)(?:'s)?\b"
_QUOTED = r"""(?:"[^"]*(?:"|$)|'(?:[^']|'(?=\w))*(?:'|$))"""
_QUOTES = rf"\s*{_QUOTED}(?:(?: and|,(?: and)?) ?{_QUOTED})*"
_WORD = r"(?: (?!(?:and|with|an?|in|on|at|that|who|which|while|is|are)\b)[^\s\",.;]+)"
_THING = r"[^\s\",.;]+"
_SURFACE = "(?:sign|shirt|t-shirt|hat|cap|board|banner|screen|poster|wall|paper|book|cake|label|plate|jersey)"
_PLACE = (
    r"(?:(?: (?:is|are))?(?: (?:written|printed|painted|displayed|visible))? (?:on|in|across|at|above|below) "
    rf"(?:(?:the|her|his|their|its) {_THING}(?: of (?:it|(?:the|an?|her|his|their|its) {_THING}))?"
    rf"|it\b|him\b|her\b|them\b|an? {_SURFACE}\b))"
)
_STOP = r"(?=\s*(?:[,.;]|$))"
_WRITING = rf"(?:{_QUOTES}{_PLACE}?|{_WORD}{{1,6}}?(?:{_PLACE}|{_STOP})|{_PLACE}|{_WORD})"
PHRASES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:\bwith a sign )?\bthat says\b(?:\s*['\"]?\s*the {_NOUN})?{_WRITING}?",
        rf"\bwith the {_NOUN}{_WRITING}?",
        # After these two a letter can be one of paper: only with words that make it writing.
        rf"\b(?:has|and) the {_NOUN}(?:{_QUOTES}{_PLACE}?|{_WORD}{{0,6}}?{_PLACE}|\s*$)",
        rf"\b(?:(?:the|a) )?words?(?:{_QUOTES}|{_WORD}) on it\b",
    )
)


def remove_writing(caption: str) -> str:
    """The caption without phrases about writing, such as 'with the words "..." on it' or 'that says stop'.

    A caption without any is returned unchanged.
    """
    rest = caption
    for phrase in PHRASES:
        while (shorter := phrase.sub("", rest)) != rest:
            rest = " ".join(shorter.split())
    return caption if rest == caption else re.sub(r"\s+(?=[,.;])", "", rest).strip(" ,;")
