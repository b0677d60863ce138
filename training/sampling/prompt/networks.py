"""Networks named in a prompt, such as <lora:NAME:0.8> and <hypernet:NAME>: taken out of the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control

NetworkKind = Literal["lora", "hypernet"]
# The words that prompts use, and the kind that each means; a further kind is one line.
KINDS: dict[str, NetworkKind] = {"lora": "lora", "lyco": "lora", "hypernet": "hypernet"}
_TAG = re.compile(r"<(\w+):([^>]+)>")
_USAGE = {"lora": "<lora:NAME:0.8>, or <lora:NAME:0.5:1> for text encoder and U-Net", "hypernet": "<hypernet:NAME:0.8>"}


@dataclass(frozen=True, slots=True)
class NetworkTag:
    """A network as a prompt names it."""

    kind: NetworkKind
    name: str
    text_encoder: float = 1.0  # factor of its changes of the text encoders
    denoiser: float = 1.0  # and of the denoiser
    rank: int | None = None  # the rank that a LoRA is cut to


@dataclass(frozen=True, slots=True)
class PromptNetworks:
    """A prompt without its networks, and these."""

    text: str
    networks: tuple[NetworkTag, ...]
    unknown: tuple[str, ...]  # tags of a kind that prep does not know, which are removed as well


def take_networks(prompt: str) -> PromptNetworks:
    """Take the networks out of a prompt; PrepError for one with a weight that is no number.

    Only the tags leave: 'a, <lora:x:1>, b' becomes 'a, , b'. In negative prompts the tags are text.
    """
    found = [(tag[0], tag[1], tag[2]) for tag in _TAG.finditer(prompt)]
    networks = tuple(_network(KINDS[word], tag, arguments) for tag, word, arguments in found if word in KINDS)
    return PromptNetworks(_TAG.sub("", prompt), networks, tuple(tag for tag, word, _ in found if word not in KINDS))


def _network(kind: NetworkKind, tag: str, arguments: str) -> NetworkTag:
    """A network from the arguments of its tag, some by position and others by name, as WebUI reads them."""
    items = [item.partition("=") for item in arguments.split(":")]
    named = {name.strip(): value for name, sign, value in items if sign}
    name, *numbers = [item for item, sign, _ in items if not sign] or [""]
    shown, usage = escape_control(tag), f"It is written {_USAGE[kind]}."
    if not name.strip():
        raise PrepError(f"{shown} names no file.", usage)
    keys = ("te", "unet", "dyn") if kind == "lora" else ("te",)
    if len(numbers) > len(keys) or named.keys() - set(keys):
        raise PrepError(f"{shown} has more arguments than prep knows.", usage)
    given = dict(zip(keys, numbers, strict=False)) | named
    try:
        text_encoder = float(given.get("te", 1.0))
        rank = int(given["dyn"]) if "dyn" in given else None
        weights = (text_encoder, float(given.get("unet", text_encoder)))
    except ValueError:
        raise PrepError(f"{shown} has a weight that is no number.", usage) from None
    if not all(abs(weight) <= 1000 for weight in weights) or (rank is not None and rank < 1):
        raise PrepError(f"{shown} has a weight or rank that makes no sense.", usage)
    return NetworkTag(kind, name.strip(), *weights, rank)
