"""BLIP: a sentence about each picture, from Salesforce's BLIP (base, large) or BLIP-2."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from pipeline.errors import PrepError
from pipeline.models.store import Found
from pipeline.record import Annotation
from pipeline.stage import opt
from pipeline.workspace import Workspace
from taggers.captioners.captioner import Said, Searching, check_class, find_folder, load_parts, mend
from taggers.captioners.generate import Form, Net, Ready, Style, captions, joined, one_line, prepare
from taggers.memory import Pieces
from taggers.tagger import Look, Split

BLIP, BLIP2 = "BlipForConditionalGeneration", "Blip2ForConditionalGeneration"
# What Salesforce ran BLIP-2's language models with (LAVIS, blip2_opt.py and blip2_t5.py).
HALF = {"opt": "float16", "t5": "bfloat16"}


@dataclass(frozen=True, kw_only=True)
class Blip(Searching):
    """A sentence about each picture from BLIP or BLIP-2: greedy and the same each time, unless told otherwise.

    The score is the geometric mean of the probabilities of the caption's tokens.
    """

    name: ClassVar[str] = "blip"

    model: str = opt(
        "Salesforce/blip-image-captioning-large",
        "Model: a name from 'prep models list', a hub id such as Salesforce/blip-image-captioning-base or "
        "Salesforce/blip2-opt-2.7b, or a folder with its files; a relative path starts at the workspace.",
        key=False,
        metavar="MODEL",
    )
    sample: bool = opt(False, "Draw words at random instead, the same ones for the same picture and seed.")
    top_p: float = opt(0.9, "With sample: draw from the likeliest words that have this probability.", low=0.01, high=1)
    seed: int = opt(0, "With sample: another number gives other captions.")
    min_tokens: int = opt(0, "Fewest tokens in a caption; forcing more makes BLIP repeat itself.", low=0)
    repetition_penalty: float = opt(1.0, "Above 1, words that were already said become less likely.", low=1, high=10)
    prompt: str = opt("", "Words that the caption goes on from, such as 'a photo of'.")
    keep_prompt: bool = opt(False, "Leave the prompt's words in the caption.")

    def check(self) -> None:
        if self.sample and self.beams > 1:
            raise PrepError("blip: sample and beams exclude each other.", "Give one of --sample and --beams.")
        if self.min_tokens > self.max_tokens:
            raise PrepError(
                f"blip: min_tokens {self.min_tokens} is more than max_tokens {self.max_tokens}.", "Lower one of them."
            )

    def load(self, workspace: Workspace) -> Look:
        net = open_net(self, workspace)
        pieces = Pieces(self.chunk, self.by)
        return Split(partial(prepare, net.eye, self.seed), partial(infer, pieces, net, self))


def open_net(blip: Blip, workspace: Workspace) -> Net:
    """Load the model; PrepError when the folder holds no BLIP captioner or an old form of it."""
    found = find_folder(blip.model, workspace)
    name = check_class(found, (BLIP, BLIP2), "blip")
    parts = load_parts(found, name, blip, HALF)
    rules = _blip if name == BLIP else _blip2
    prompt, start, ends = rules(found, parts.model.config, parts.tokenizer, blip.prompt)
    form = Form(parts.tokenizer, ends, blip.by, joined if name == BLIP else one_line)
    return Net(parts.model, parts.eye, form, prompt, start)


def _blip(found: Found, config: Any, tokenizer: Any, prompt: str) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """BLIP's prompt starts with its own token; its `generate` cuts the last one, which stands for the end."""
    text = config.text_config
    tokens = (text.bos_token_id, *tokenizer(prompt)["input_ids"][1:])
    return tokens, len(tokens) - 1, (text.sep_token_id,)


def _blip2(found: Found, config: Any, tokenizer: Any, prompt: str) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """BLIP-2's prompt starts with a place for every query; an encoder's prompt is no part of the answer."""
    config.image_token_index = place = image_token(found, config, len(tokenizer))
    tokens = (place,) * config.num_query_tokens + tuple(tokenizer(prompt)["input_ids"])
    ends = config.text_config.eos_token_id
    start = 1 if config.text_config.is_encoder_decoder else len(tokens)
    return tokens, start, tuple(ends) if isinstance(ends, list) else (ends,)


def image_token(found: Found, config: Any, known: int) -> int:
    """The token that keeps a query's place in BLIP-2's prompt; PrepError when there is none.

    Old revisions name none. Their vocabularies have rows to spare after the `known` tokens, of which
    newer revisions took the first (50265 in blip2-opt); its own vector is never read.
    """
    if config.image_token_index is not None:
        return int(config.image_token_index)
    if known < config.text_config.vocab_size:
        return known
    raise PrepError(
        f"{found.folder / 'config.json'} has no image_token_index, and no token is free for it.", mend(found)
    )


def infer(pieces: Pieces, net: Net, blip: Blip, ready: list[Ready]) -> list[list[Annotation]]:
    """A caption of each picture."""
    top_p = blip.top_p if blip.sample else None
    style = Style(blip.max_tokens, blip.min_tokens, blip.beams, blip.repetition_penalty, top_p)
    said = pieces.run(partial(captions, net, style), ready)
    return blip.annotations([_with_prompt(one, blip) for one in said])


def _with_prompt(said: Said, blip: Blip) -> Said:
    if not (blip.keep_prompt and blip.prompt):
        return said
    return Said(f"{blip.prompt.strip()} {said.text}".strip(), said.score, said.cut)
