"""Text conditioning of generated images: from prompts to what the denoiser gets at each evaluation."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.tag_text import escape_control
from training.models.family import TextSettings
from training.sampling.embeddings import EmbeddingLibrary, placed_vectors
from training.sampling.emphasis_modes import EmphasisMode, emphasized
from training.sampling.prompt.chunks import COMMA_WINDOW, Chunk, Chunks, TokenizedText, make_chunks
from training.sampling.prompt.composition import split_parts
from training.sampling.prompt.emphasis import WeightedText, parse_emphasis
from training.sampling.prompt.schedule import Evaluations, schedule, select

if TYPE_CHECKING:
    import torch

    from training.models.family import Condition, EncodedText, Family, Modules

log = logging.getLogger(__name__)

_SHOWN = 60  # characters of a prompt in a message
_REMEMBERED = 512  # encoded chunks that are kept: 0.12 GB with Stable Diffusion 1.x


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """How prompts are read; the defaults are those of AUTOMATIC1111's WebUI 1.10."""

    clip_skip: int = 1  # the layer of the text encoder, counted from its last, 1; Stable Diffusion 1.x only
    emphasis: EmphasisMode = "original"
    comma_window: int = COMMA_WINDOW  # 0: chunks never end at a comma
    pad_shorter: bool = False  # give the shorter of prompt and negative prompt empty chunks, so that both are equal


@dataclass(frozen=True, slots=True)
class ScheduledCondition:
    """The conditions of one prompt in the course of sampling."""

    ends: tuple[int, ...]  # the last evaluation of each, see schedule.select
    conditions: tuple[Condition, ...]  # of one text each: (1, ...)

    def at(self, evaluation: int) -> Condition:
        """The condition of an evaluation, counted from 0 in each pass. Equal texts have the same object."""
        return self.conditions[select(self.ends, evaluation)]


@dataclass(frozen=True, slots=True)
class GuidedCondition:
    """The conditions of one evaluation. The guided prediction is u + scale * sum of weight * (c - u).

    The conditions c of the parts have equal lengths; that of the negative prompt, u, may have another one.
    """

    parts: tuple[tuple[float, Condition], ...]  # weight and condition of each part that AND joins
    negative: Condition


@dataclass(frozen=True, slots=True)
class PromptConditioning:
    """What a prompt and its negative prompt give at each evaluation of the denoiser."""

    parts: tuple[tuple[float, ScheduledCondition], ...]
    negative: ScheduledCondition

    def at(self, evaluation: int) -> GuidedCondition:
        """The conditions of an evaluation, counted from 0 in each pass of sampling."""
        parts = tuple((weight, scheduled.at(evaluation)) for weight, scheduled in self.parts)
        return GuidedCondition(parts, self.negative.at(evaluation))


class CaptionEncoder:
    """Encodes prompts as training encodes captions: in one piece, up to the token limit of the settings."""

    def __init__(self, family: Family, tokenizers: Modules, encoders: Modules, settings: TextSettings) -> None:
        self.family = family
        self.tokenizers = tokenizers
        self.encoders = encoders
        self.settings = settings
        self.encoded: dict[str, Condition] = {}

    def encode(self, prompt: str, negative: str, evaluations: Evaluations) -> PromptConditioning:
        """The same conditions at every evaluation."""
        found = [ScheduledCondition((evaluations.count,), (self.condition(text),)) for text in (prompt, negative)]
        return PromptConditioning(((1.0, found[0]),), found[1])

    def condition(self, text: str) -> Condition:
        """The condition of a text (1, ...), on the text encoders' device, without gradients; told if it is cut."""
        import torch

        if text not in self.encoded:
            if self.family.too_long(self.tokenizers, text, self.settings):
                warn_of_cut(text, self.settings.tokens)
            with torch.no_grad():
                self.encoded[text] = self.family.encode_text(self.tokenizers, self.encoders, [text], self.settings)
        return self.encoded[text]


class PromptEncoder:
    """Encodes prompts with text encoders that the caller has loaded, and may release afterwards.

    Each distinct chunk is encoded once and alone, so that a prompt's condition does not depend on others.
    """

    def __init__(
        self,
        family: Family,
        tokenizers: Modules,
        encoders: Modules,
        settings: PromptSettings,
        embeddings: EmbeddingLibrary | None = None,
    ) -> None:
        self.family = family
        self.tokenizers = tokenizers
        self.encoders = encoders
        self.settings = settings
        self.embeddings = embeddings or EmbeddingLibrary({}, {})
        self.captions = CaptionEncoder(family, tokenizers, encoders, TextSettings())
        self.encoded: dict[tuple[str, Chunk], EncodedText] = {}
        self.texts: dict[tuple[tuple[str, ...], bool], list[Condition]] = {}

    def encode(self, prompt: str, negative: str, evaluations: Evaluations) -> PromptConditioning:
        """The conditions of a prompt without networks (see take_networks) and of its negative prompt.

        They are on the text encoders' device, without gradients.
        """
        parts = split_parts(prompt)
        scheduled = [self._scheduled(part.text, evaluations, negative=False) for part in parts]
        unconditional = self._scheduled(negative, evaluations, negative=True)
        if self.settings.pad_shorter:
            scheduled, unconditional = self._pad_shorter(scheduled, unconditional)
        weights = [part.weight for part in parts]
        return PromptConditioning(tuple(zip(weights, _of_equal_length(scheduled), strict=True)), unconditional)

    def chunks(self, text: str) -> Chunks:
        """The chunks of one text of a schedule."""
        tokenizer = self.tokenizers[self.family.encoders[0]]
        literal = self.settings.emphasis == "none"
        parts = [WeightedText(text, 1.0)] if literal else parse_emphasis(text)
        tokens = [tokenizer(part.text, add_special_tokens=False, truncation=False).input_ids for part in parts]
        commas = tokenizer(",", add_special_tokens=False).input_ids
        tokenized = [TokenizedText(ids, part) for ids, part in zip(tokens, parts, strict=True)]
        return make_chunks(
            tokenized, commas[0] if len(commas) == 1 else -1, self.embeddings.find, self.settings.comma_window
        )

    def _scheduled(self, text: str, evaluations: Evaluations, negative: bool) -> ScheduledCondition:
        entries = schedule(text, evaluations)
        conditions = self._conditions(tuple(entry.text for entry in entries), negative)
        return ScheduledCondition(tuple(entry.end for entry in entries), tuple(conditions))

    def _conditions(self, texts: tuple[str, ...], negative: bool) -> list[Condition]:
        """The condition of each text of a schedule; together, because emphasis restores the mean over all of them."""
        import torch

        key = (texts, negative and self.family.zeroes_empty_negative and not any(texts))
        if key not in self.texts:
            with torch.no_grad():
                found = self._encode_texts(Counter(texts))
            if key[1]:
                found = {text: {name: torch.zeros_like(value) for name, value in found[text].items()} for text in found}
            self.texts[key] = [found[text] for text in texts]
        return self.texts[key]

    def _encode_texts(self, counts: Counter[str]) -> dict[str, Condition]:
        """The condition of each text, which occurs so often in a schedule; all get as many chunks as the longest."""
        if not self.family.chunked_prompts:
            return {text: self._unchunked(text) for text in counts}
        chunked = {text: self.chunks(text).chunks for text in counts}
        most = max(map(len, chunked.values()))
        rows = {text: [*chunks, *[Chunk()] * (most - len(chunks))] for text, chunks in chunked.items()}
        encoded = {part: self._encode_rows(part, rows, counts) for part in self.encoders}
        return {text: self.family.join_texts({part: encoded[part][text] for part in encoded}) for text in rows}

    def _unchunked(self, text: str) -> Condition:
        """The condition of a text as the family reads captions; told if brackets in it look like weights."""
        if any(part.weight != 1.0 for part in parse_emphasis(text)):
            log.warning("%s reads brackets as text: %s", self.family.title, shown(text))
        return self.captions.condition(text)

    def _encode_rows(self, part: str, rows: dict[str, list[Chunk]], counts: Counter[str]) -> dict[str, EncodedText]:
        """The output of a text encoder for texts of equally many chunks: (1, 77 chunks, width), the first's pooled."""
        import torch

        columns = []
        for column in range(len(next(iter(rows.values())))):
            outputs = {text: (self._encode_chunk(part, row[column]).text, row[column]) for text, row in rows.items()}
            columns.append(emphasized(outputs, counts, self.settings.emphasis))
        return {
            text: replace(self._encode_chunk(part, row[0]), text=torch.cat([column[text] for column in columns], dim=1))
            for text, row in rows.items()
        }

    def _encode_chunk(self, part: str, chunk: Chunk) -> EncodedText:
        """The output of a text encoder for a chunk, before emphasis."""
        import torch

        plain = Chunk(chunk.tokens, (), chunk.embeddings)  # the weights act on the output
        if (part, plain) not in self.encoded:
            tokenizer, encoder = self.tokenizers[part], self.encoders[part]
            ids = plain.ids(tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
            tokens = torch.tensor([ids], device=encoder.device)
            with placed_vectors(encoder, part, plain.embeddings, self.embeddings):
                output = self.family.encode_tokens(part, encoder, tokens, self.settings.clip_skip)
            if len(self.encoded) >= _REMEMBERED:
                self.encoded.clear()
            self.encoded[part, plain] = output
        return self.encoded[part, plain]

    def _pad_shorter(
        self, parts: list[ScheduledCondition], negative: ScheduledCondition
    ) -> tuple[list[ScheduledCondition], ScheduledCondition]:
        """Append encoded empty chunks, where the lengths differ by whole chunks."""
        import torch

        empty = self._conditions(("",), False)[0]["text"]
        longest = max(_length(one) for one in (*parts, negative))

        def chunks(text: torch.Tensor, missing: int) -> torch.Tensor:
            return torch.cat([empty] * (missing // empty.shape[1]), dim=1)

        return [_lengthened(one, longest, chunks) for one in parts], _lengthened(negative, longest, chunks)


@functools.lru_cache(_REMEMBERED)
def warn_of_cut(text: str, tokens: int) -> None:
    """Tell, once for each prompt, that it is cut after so many tokens."""
    log.warning("CLIP reads the first %d tokens of this prompt: %s", tokens, shown(text))


def shown(text: str) -> str:
    """The beginning of a prompt, for a message."""
    return escape_control(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _length(scheduled: ScheduledCondition) -> int:
    return int(scheduled.conditions[0]["text"].shape[1])


def _of_equal_length(parts: list[ScheduledCondition]) -> list[ScheduledCondition]:
    """Shorter parts repeat their last vector, as in WebUI, so that all can be one batch."""
    longest = max(map(_length, parts))
    return [_lengthened(one, longest, lambda text, missing: text[:, -1:].repeat(1, missing, 1)) for one in parts]


def _lengthened(
    scheduled: ScheduledCondition, length: int, fill: Callable[[torch.Tensor, int], torch.Tensor]
) -> ScheduledCondition:
    """The same with texts of this length, by what `fill` makes of a text and the number of vectors that it lacks."""
    import torch

    missing = length - _length(scheduled)
    if not missing:
        return scheduled
    distinct = {id(one): one for one in scheduled.conditions}
    longer = {
        key: one | {"text": torch.cat([one["text"], fill(one["text"], missing)], dim=1)}
        for key, one in distinct.items()
    }
    return replace(scheduled, conditions=tuple(longer[id(one)] for one in scheduled.conditions))
