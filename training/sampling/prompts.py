"""Prompts of sample images: from a text file, or those that default_prompts makes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from pipeline.text_files import TextFault, read_text
from pipeline.workspace import Workspace
from training.batch import TrainingImage
from training.evaluation.clip_score import ClipScorer
from training.options.sampling import SamplingOptions
from training.sampling.default_prompts import default_prompts
from training.sampling.prompt.networks import take_networks
from training.sampling.settings import LARGEST_SEED, ImageSettings

# Flags after a prompt, as in kohya's prompt files: '--w 512 --h 768 --d 7 --s 30 --l 7.5 --ss euler_a --n blurry'.
FLAGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "w": ("width", int),
    "h": ("height", int),
    "d": ("seed", int),
    "s": ("steps", int),
    "l": ("cfg_scale", float),
    "ss": ("sampler", str),
    "n": ("negative", str),
}
_PROMPT_FILE = "Give a text file with one prompt per line."
_KNOWN = ", ".join(f"--{flag}" for flag in FLAGS)
# A flag is two dashes and a letter after a space; 'a--b' and single dashes are part of the prompt.
_FLAG = re.compile(r"(?:^|\s)--(?=[A-Za-z])")
_WORD = re.compile(r"(\S+)(.*)", re.DOTALL)


def sample_requests(
    options: SamplingOptions, samples: list[TrainingImage], workspace: Workspace, seed: int
) -> list[ImageSettings]:
    """The sample images that a run generates; none if no option asks for samples. `seed` is that of the first."""
    if not (options.sample_every_epochs or options.sample_every_steps or options.sample_prompts):
        return []
    ClipScorer.check(options.sample_clip, workspace)
    defaults = ImageSettings.of("", {"steps": options.sample_steps, "seed": seed})
    if options.sample_prompts:
        path = workspace.resolve(options.sample_prompts)
        requests = read_prompts(path, defaults)
        _refuse_networks(requests, path)
        return requests
    return default_prompts(samples, defaults)


def _refuse_networks(requests: list[ImageSettings], path: Path) -> None:
    """PrepError for a prompt that names a network: samples show the weights that are being trained, and no others."""
    for request in requests:
        for network in take_networks(request.prompt).networks:
            raise PrepError(
                f"{path.name} names <{network.kind}:{escape_control(network.name)}>, but samples of training have the "
                "weights that are being trained, and no other networks.",
                "Leave it out, and combine networks after training: prep generate",
            )


def read_prompts(path: Path, defaults: ImageSettings, seed_step: int = 1) -> list[ImageSettings]:
    """The requests of a prompt file, one per line; empty lines and lines that start with # are skipped.

    Settings that a line does not give come from `defaults`, with a seed that is `seed_step` higher for every line.
    PrepError names a line that cannot be read.
    """
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise PrepError(f"The prompt file {path} cannot be read: {error.strerror}.", _PROMPT_FILE) from None
    except TextFault as fault:
        raise PrepError(f"The prompt file {path} {fault}.", "Save it as UTF-8.") from None
    found: list[ImageSettings] = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            found.append(parse_line(line, defaults.later(seed_step * len(found)), f"{path.name}, line {number}"))
    if not found:
        raise PrepError(f"The prompt file {path} holds no prompt.", "Write one prompt per line.")
    return found


def parse_line(line: str, defaults: ImageSettings, where: str) -> ImageSettings:
    """Parse a line of a prompt file: the prompt, then its flags."""
    prompt, *pieces = _FLAG.split(line)
    if not prompt.strip():
        raise PrepError(f"{where} has no prompt before {line.strip()[:20]!r}.", "Write the prompt first.")
    values: dict[str, Any] = {}
    for piece in pieces:
        flag, text = _WORD.fullmatch(piece).groups()  # type: ignore[union-attr]
        name, read = _known(flag, where)
        if name in values:
            raise PrepError(f"{where} has --{flag} twice.", "Leave one of them out.")
        values[name] = _value(read, text.strip(), f"{where}: --{flag}")
    if "width" in values or "height" in values:
        sides = (values.pop("width", defaults.width), values.pop("height", defaults.height))
        values["size"] = "{}x{}".format(*sides)
    if values.get("seed", 0) < 0:
        raise PrepError(f"{where}: the seed is {values['seed']}.", f"It must be from 0 to {LARGEST_SEED}.")
    try:
        return replace(defaults.with_values(values), prompt=prompt.strip())
    except PrepError as error:
        raise PrepError(f"{where}: {error.wrong.removeprefix('generate: ')}", error.hint) from None


def _known(flag: str, where: str) -> tuple[str, Callable[[str], Any]]:
    if flag not in FLAGS:
        raise PrepError(f"{where} has --{escape_control(flag)[:20]}, which prep does not know.", f"Known: {_KNOWN}.")
    return FLAGS[flag]


def _value(read: Callable[[str], Any], text: str, where: str) -> Any:
    try:
        return read(text)
    except ValueError:
        kind = "a whole number" if read is int else "a number"
        raise PrepError(f"{where} is {escape_control(text)[:20]!r}.", f"It must be {kind}.") from None
