"""The parts of a diffusers folder: their classes, their modules without weights, and the names of their weights."""

from __future__ import annotations

import json
import logging as logging_module
import re
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from training.models.families import base_parts

COPY_AGAIN = "Download or copy the model again, and check its size."
# Where CLIP's modules begin in a text encoder without the level; T5's are named differently.
_CLIP_MODULE = re.compile(r"(embeddings|encoder\.layers|final_layer_norm)\b")


def empty_part(folder: Path, part: str) -> Any:
    """A part of a diffusers folder as its configuration describes it, with newly initialized weights."""
    cls = part_class(folder / part, part)
    if base_parts()[part].tokenizer:
        return cls(cls.config_class.from_pretrained(folder / part))
    return cls.from_config(cls.load_config(folder / part))


def published_name(part: str, name: str) -> str:
    """The name that a weight or module of a part has in files.

    transformers 5.6 took the level 'text_model' out of CLIP's text encoder; files keep it.
    """
    return f"text_model.{name}" if part.startswith("text_encoder") and _CLIP_MODULE.match(name) else name


def quiet() -> None:
    """Silence the libraries' log messages and progress bars."""
    import diffusers.utils.logging
    import transformers.utils.logging

    logging_module.getLogger("bitsandbytes").setLevel(logging_module.ERROR)  # which tells what it lacks on a CPU
    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}
    except ValueError:
        raise PrepError(f"{file} is not JSON.", COPY_AGAIN) from None


def part_class(folder: Path, part: str) -> Any:
    """The class of a part, which its configuration names; PrepError when no family has it."""
    import diffusers
    import transformers

    known = base_parts()[part]
    config = read_json(folder / "config.json")
    name = str(config.get("_class_name") or (config.get("architectures") or [""])[0])
    if not name and not known.tokenizer:
        name = known.classes[0]  # diffusers' oldest configurations name none
    if name not in known.classes:
        raise PrepError(
            f"{folder} is of the class {name or '(none)'}, which prep does not load.", "Use the model's plain version."
        )
    return getattr(transformers if known.tokenizer else diffusers, name)
