"""The settings that an image carries, for prep generate --from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.commands.generated_table import FILE, read_table
from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from pipeline.workspace import file_sha256
from training.sampling.image_text import read_text
from training.sampling.infotext import Infotext, read_hashes, read_infotext, unknown_pairs
from training.sampling.settings import ImageSettings

log = logging.getLogger(__name__)

_MOST_TOGETHER = 256


def carried_settings(source: Path) -> Infotext:
    """What an image carries; PrepError if that is nothing. What prep has no setting for is said."""
    if not source.is_file():
        wrong = f"{source} is a folder." if source.is_dir() else f"There is no image {source}."
        raise PrepError(wrong, "Name an image that prep or WebUI has made.")
    found = read_infotext(read_text(source))
    if not found.pairs:
        raise PrepError(
            f"{escape_control(str(source))} carries no settings.",
            "Only images that were not edited or compressed since they were made do; give the settings as options.",
        )
    if others := unknown_pairs(found):
        log.warning("Not applied, because prep has no such setting: %s.", escape_control(", ".join(others)))
    return found


def carried_images(source: Path, carried: Infotext) -> dict[str, Any]:
    """The options that name other images, which only the table beside an image knows; PrepError where it is needed."""
    row: dict[str, Any] = {}
    table = source.parent / FILE
    if table.is_file():
        sha256 = file_sha256(source)
        row = next((one for one in read_table(table) if one["sha256"] == sha256), {})
    needs = {
        "control": any(key.startswith("ControlNet ") for key in carried.pairs),
        "init_image": "Denoising strength" in carried.pairs and not any(k.startswith("Hires") for k in carried.pairs),
    }
    return {name: row.get(name) or None for name, needed in needs.items() if needed}


def changed_settings(settings: ImageSettings, given: Mapping[str, Any]) -> ImageSettings:
    """The settings of an image, but for the options that the user gives."""
    for name, flag in (("control", "--control KIND=IMAGE"), ("init_image", "--init-image FILE")):
        if name in given and not given[name]:
            raise PrepError("The image was made from another image, which it does not carry.", f"Give it: {flag}")
    own = {option.name for option in ImageSettings.options()}
    values = {name: value for name, value in given.items() if name in own}
    if "hires_scale" in values:
        values.setdefault("hires_size", "")
    elif "hires_size" in values:
        values.setdefault("hires_scale", 0.0)
    return settings.with_values(values)


def compare_networks(carried: Infotext, used: Mapping[str, str]) -> None:
    """Say which networks, by name, are other files than those that the image was made with."""
    recorded = read_hashes(carried.pairs.get("Lora hashes", "")) | read_hashes(carried.pairs.get("TI hashes", ""))
    for name, sha256 in used.items():
        if name in recorded and not sha256.startswith(recorded[name]) and not recorded[name].startswith(sha256):
            log.warning("%s is another file than the one that the image was made with.", escape_control(name))


def carried_batch_size(carried: Infotext) -> int:
    """How many images were denoised together with the one that carries this text, itself included."""
    text = carried.pairs.get("Batch size", "1").strip()
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_TOGETHER:
        raise PrepError(f"The image's settings have Batch size: {escape_control(text[:40])}.", "Give: --batch-size 1")
    return int(text)
