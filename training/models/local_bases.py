"""The base models on this machine, and the sentence that tells a user how to name or get one."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.models.catalog import CATALOG
from pipeline.models.hub_cache import cached_models
from pipeline.models.store import CACHED, INSTALLED, format_bytes, local_folder, state_of, unlisted_models
from training.models.families import detect_family
from training.models.parts import read_json

MINI_NAME = "mini"  # the tiny untrained base model, which is used only when it is asked for by name
SHORT_NAMES = {entry.name: entry.repo_id for entry in CATALOG if entry.used_by == "train"}
_INDEX = "model_index.json"


@dataclass(frozen=True, slots=True)
class FolderConfigs:
    """The configuration files of a diffusers folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def config(self, part: str) -> dict[str, Any]:
        """See ModelConfigs."""
        return read_json(self.folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json"))

    def own_vae(self) -> dict[str, Any]:
        """See ModelConfigs."""
        return self.config("vae")


def local_bases() -> list[str]:
    """The base models in prep's models folder and in the Hugging Face cache, as --base takes them.

    Short names first, then hub ids. Models of families that prep does not train, and incomplete ones, are left out.
    """
    entries = [entry for entry in CATALOG if entry.used_by == "train"]
    known = [entry.name for entry in entries if state_of(entry.repo_id, entry.files) in (INSTALLED, CACHED)]
    others = sorted({*unlisted_models(), *cached_models()} - set(SHORT_NAMES.values()))
    return known + [repo_id for repo_id in others if _is_base(local_folder(repo_id, (_INDEX,)))]


def how_to_name_a_base(text: str = "") -> str:
    """A hint: the base models on this machine, or how to get one. `text` is what the user called a base model."""
    found = local_bases()
    close = difflib.get_close_matches(text.lower(), [*SHORT_NAMES, *found], n=1) if text else []
    meant = f"Did you mean {close[0]}? " if close else ""
    if found:
        return f"{meant}On this machine: {', '.join(found)}. Name one, for example: --base {(close or found)[0]}"
    first = CATALOG[[entry.name for entry in CATALOG].index(close[0] if close else next(iter(SHORT_NAMES)))]
    return (
        f"{meant}None is on this machine. Get one: prep models pull {first.name} ({format_bytes(first.size)}), then "
        f"name it: --base {first.name}. Or name a file or folder of yours, or, to try prep out: --base {MINI_NAME}"
    )


def _is_base(folder: Path | None) -> bool:
    """Whether a folder holds a model of a family that prep trains."""
    if folder is None or not (folder / _INDEX).is_file():
        return False
    try:
        detect_family(FolderConfigs(folder))
    except PrepError:
        return False
    return True
