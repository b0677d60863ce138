"""The text of an image's settings that AUTOMATIC1111's WebUI, Civitai and prompt readers understand.

Three parts, each on lines of its own: the prompt; 'Negative prompt: ...' if there is one; and a last line of
'Key: value' pairs, joined by commas. A value with a comma, a colon or a line break is a JSON string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.errors import PrepError
from pipeline.options import build_options
from training.sampling.settings import ImageSettings

LONGEST = 200_000  # characters that are read; the text of any real image is far shorter
_NEGATIVE = "Negative prompt:"
_FEWEST_PAIRS = 3  # a last line with fewer belongs to the prompt
# A key, then a JSON string or anything up to the next comma. Possessive, and bounded where nothing is consumed without
# a match, so that no text takes long.
_PAIR = re.compile(r'\s{0,9}+(\w[\w \-/]{1,90}+):\s*+("(?:\\.|[^\\"])++"|[^,]*+)(?:,|$)')


@dataclass(frozen=True, slots=True)
class UsedModels:
    """The models that an image was made with, as its text names them."""

    model: str = ""  # the base model's name without an ending
    model_hash: str = ""  # sha256 of its weights
    vae: str = ""  # of --vae; empty: the base model's own
    vae_hash: str = ""
    loras: tuple[tuple[str, str], ...] = ()  # name and hash, see lora_hash
    embeddings: tuple[tuple[str, str], ...] = ()
    controls: tuple[str, ...] = ()  # of each control unit: 'Module: canny, Model: ...'
    version: str = ""  # of prep
    batch_size: int = 1  # images that were denoised together, which changes their last bits


@dataclass(frozen=True, slots=True)
class Infotext:
    """The text of an image, read: its prompts, and its pairs by key, all as text."""

    prompt: str
    negative: str = ""
    pairs: Mapping[str, str] = field(default_factory=dict)


# Option, key in the text, and what reads the value. In the order in which they are written; an option at its default
# is left out, but for those that WebUI always writes.
_ALWAYS = ("steps", "sampler", "schedule", "cfg_scale", "seed", "size")
_BEFORE_MODEL = (
    ("steps", "Steps", int),
    ("sampler", "Sampler", str),
    ("schedule", "Schedule type", str),
    ("cfg_scale", "CFG scale", float),
    ("seed", "Seed", int),
    ("size", "Size", str),
)
_AFTER_MODEL = (
    ("variation_seed", "Variation seed", int),
    ("variation_strength", "Variation seed strength", float),
    ("seed_resize", "Seed resize from", str),
    ("denoise", "Denoising strength", float),
    ("clip_skip", "Clip skip", int),
    ("ensd", "ENSD", int),
    ("rng", "RNG", str),
    ("hires_scale", "Hires upscale", float),
    ("hires_size", "Hires resize", str),
    ("hires_steps", "Hires steps", int),
    ("hires_upscaler", "Hires upscaler", str),
    ("hires_sampler", "Hires sampler", str),
    ("hires_schedule", "Hires schedule type", str),
    ("hires_prompt", "Hires prompt", str),
    ("hires_negative", "Hires negative prompt", str),
    ("emphasis", "Emphasis", str),
    ("eta", "Eta", float),
    ("resize_mode", "Resize mode", str),
    ("precision", "Precision", str),
)
_OPTIONS = (*_BEFORE_MODEL, *_AFTER_MODEL)
# How the text writes the values of choices.
_WORDS = {
    "rng": {"gpu": "GPU", "cpu": "CPU", "nv": "NV"},
    "emphasis": {"original": "Original", "no_norm": "No norm", "ignore": "Ignore", "none": "None"},
}
_DDIM_ETA = "Eta DDIM"  # the key of eta where the sampler is DDIM


def write_infotext(settings: ImageSettings, used: UsedModels) -> str:
    """The text of an image with these resolved settings."""
    values = _written(settings)
    pairs = {key: values[name] for name, key, _ in _BEFORE_MODEL if name in values}
    pairs |= {
        "Model hash": used.model_hash[:10],
        "Model": used.model,
        "VAE hash": used.vae_hash[:10],
        "VAE": used.vae,
    }
    pairs |= {key: values[name] for name, key, _ in _AFTER_MODEL if name in values}
    if "Eta" in pairs and settings.sampling.sampler.startswith("DDIM"):
        pairs[_DDIM_ETA] = pairs.pop("Eta")
    pairs |= {f"ControlNet {number}": text for number, text in enumerate(used.controls)}
    pairs["Lora hashes"] = _hashes(used.loras)
    pairs["TI hashes"] = _hashes(used.embeddings)
    pairs["Batch size"] = str(used.batch_size) if used.batch_size > 1 else ""
    pairs["Version"] = used.version and f"prep {used.version}"
    last = ", ".join(f"{key}: {_quote(value)}" for key, value in pairs.items() if value)
    negative = f"\n{_NEGATIVE} {settings.negative}" if settings.negative else ""
    return f"{settings.prompt}{negative}\n{last}".strip()


def read_infotext(text: str) -> Infotext:
    """The parts of a text. Never fails: what is no pair belongs to the prompt, and at most LONGEST characters count."""
    *lines, last = text[:LONGEST].strip().split("\n")
    found = _PAIR.findall(last)
    if len(found) < _FEWEST_PAIRS:
        lines, found = [*lines, last], []
    prompts: list[str] = []
    negatives: list[str] | None = None
    for line in map(str.strip, lines):
        if line.startswith(_NEGATIVE):
            negatives = [] if negatives is None else negatives
            line = line.removeprefix(_NEGATIVE).strip()
        (prompts if negatives is None else negatives).append(line)
    pairs = {key: _unquote(value) for key, value in found}
    return Infotext(_join(prompts), _join(negatives or []), pairs)


def read_settings(found: Infotext) -> ImageSettings:
    """The settings that a text names; what it leaves out has WebUI's default. PrepError for a value that cannot be.

    Pairs that prep has no setting for are left out; `unknown_pairs` names them.
    """
    values: dict[str, Any] = {"negative": found.negative}
    for name, key, kind in _OPTIONS:
        text = found.pairs.get(key, "").strip()
        if text:
            values[name] = _value(name, key, kind, text)
    if _DDIM_ETA in found.pairs:
        values["eta"] = _value("eta", _DDIM_ETA, float, found.pairs[_DDIM_ETA].strip())
    if "hires_upscaler" in values or "hires_scale" in values or "hires_size" in values:
        values["hires_denoise"] = values.pop("denoise", 0.7)
    if values.get("hires_size"):
        values.pop("hires_scale", None)
    return replace(build_options(ImageSettings, values, "The image's settings"), prompt=found.prompt)


def unknown_pairs(found: Infotext) -> list[str]:
    """The keys of a text that change an image but are no settings of prep."""
    known = {key for _, key, _ in _OPTIONS}
    models = {
        "Model hash",
        "Model",
        "VAE hash",
        "VAE",
        "Lora hashes",
        "TI hashes",
        "Version",
        "Batch size",
        "Batch pos",
        _DDIM_ETA,
    }
    return [key for key in found.pairs if key not in known | models | {_DDIM_ETA} and not key.startswith("ControlNet ")]


def read_hashes(text: str) -> dict[str, str]:
    """The hashes of 'tom: 1a2b3c4d5e6f, ...' by name."""
    pairs = (entry.rpartition(":") for entry in text[:LONGEST].split(","))
    return {name.strip(): sha256.strip() for name, colon, sha256 in pairs if colon and name.strip()}


def _written(settings: ImageSettings) -> dict[str, str]:
    """The values to write by option, as text."""
    values, usual = settings.values(), ImageSettings().values()
    hires, source = settings.hires.active, bool(settings.img2img.init_image)
    if hires:
        values["denoise"] = settings.hires.hires_denoise
    kept = {}
    for name, _, _ in _OPTIONS:
        value = values[name]
        shown = name in _ALWAYS or value != usual[name]
        if name == "denoise":
            shown = hires or source
        elif name == "hires_upscaler":
            shown = hires
        elif name.startswith("hires_"):
            shown = hires and shown
        elif name == "resize_mode":
            shown = source and shown
        elif name == "variation_seed":
            shown = settings.noise.variation_strength > 0
        if shown:
            kept[name] = _WORDS.get(name, {}).get(value) or (f"{value:.10g}" if type(value) is float else str(value))
    return kept


def _value(name: str, key: str, kind: type, text: str) -> Any:
    if name in _WORDS:
        known = {word.casefold(): value for value, word in _WORDS[name].items()}
        if text.casefold() not in known:
            raise PrepError(f"The image's settings have {key}: {text[:40]!r}.", f"prep has: {', '.join(known)}.")
        return known[text.casefold()]
    try:
        return kind(text)
    except ValueError:
        raise PrepError(
            f"The image's settings have {key}: {text[:40]!r}, which is no number.", "Give the settings as options."
        ) from None


def _hashes(entries: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{name}: {sha256}" for name, sha256 in entries)


def _join(lines: list[str]) -> str:
    return "\n".join(lines).lstrip("\n")


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n]", value) else value


def _unquote(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
        return value if isinstance(value, str) else text
    return text
