"""Which files of a model's repository prep pulls, and which names it refuses."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from pipeline.errors import PrepError
from pipeline.models.catalog import CatalogEntry
from pipeline.models.store import RECORD, install_hint

TEXTS = (".json", ".txt", ".csv", ".jinja")
WEIGHTS = (".safetensors", ".onnx", ".onnx_data")
PICKLES = {  # read, as tensors only, where there is nothing else; to the name under which those are kept
    "pytorch_model.bin": "model.safetensors",
    "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
}
_COPIES = (".fp16.", ".non_ema.")  # smaller or unfinished copies of weights that stand beside them
# Parts of a pipeline that prep never loads: 1.2 GB that would blacken images of their choice, and what they read by.
_UNUSED = ("safety_checker/", "feature_extractor/")


def choose_files(
    hub: str, names: tuple[str, ...], entry: CatalogEntry | None, patterns: tuple[str, ...]
) -> dict[str, str]:
    """Of a repository's files those to pull, with their places in the model's folder; texts first.

    Those that fit `patterns`; without patterns all texts and the weights that the list of known
    models names, else those of the top folder, or of the sub-folders for a pipeline of diffusers.
    PrepError for a name that leads out of the folder, and when something needed is not there.
    """
    for name in names:
        refuse_strange(hub, name)
    below = f"{entry.below}/" if entry and entry.below else ""
    inside = [name.removeprefix(below) for name in names if name.startswith(below)]
    inside = sorted(name for name in inside if name != RECORD)
    needs = patterns or (entry.files if entry else ())
    chosen = [name for name in inside if _fits(name, patterns)] if patterns else _usual(inside, needs)
    chosen = [name for name in chosen if name.endswith(TEXTS + WEIGHTS) or name in PICKLES]
    ends = [PICKLES.get(name, name) for name in chosen]
    missing = [need for need in needs or ("*.safetensors",) if not _any(ends, need)]
    if missing and not (not needs and _any(ends, "*.onnx")):
        lacks = " and no ".join(missing)
        raise PrepError(
            f"{hub} has no {lacks} that prep would load (safetensors, ONNX and text files).", install_hint(hub)
        )
    return {below + name: name for name in sorted(chosen, key=lambda name: not name.endswith(TEXTS))}


def refuse_strange(hub: str, name: str) -> None:
    """PrepError for a name that leads out of the model's folder on any system; the list comes from strangers."""
    parts = PurePosixPath(name).parts
    strange = any(ord(letter) < 32 or letter in "\\:" for letter in name) or name.startswith(("/", "~"))
    if strange or not parts or ".." in parts or str(PurePosixPath(name)) != name:
        raise PrepError(f"{hub} lists a file {name!r}, which may lie outside its folder.", "Do not use this model.")


def _usual(names: list[str], needs: tuple[str, ...]) -> list[str]:
    """Texts and weights that a model of its kind needs."""
    deep = "model_index.json" in names  # a pipeline of diffusers: its parts lie in sub-folders
    flat = [name for name in names if (deep and not name.startswith(_UNUSED)) or "/" not in name]
    of_kind = [name for name in flat if name.endswith(WEIGHTS)]
    if needs:
        weights = [name for name in of_kind if _fits(name, needs)]
    else:
        weights = [name for name in of_kind if ("/" in name) == deep and not any(word in name for word in _COPIES)]
    weights = weights or [name for name in flat if name in PICKLES][:1]
    return [name for name in flat if name.endswith(TEXTS)] + weights


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _any(names: list[str], pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)
