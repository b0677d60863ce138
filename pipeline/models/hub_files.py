"""Which files of a hub repository are downloaded, and which names are refused."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from pipeline.errors import PrepError
from pipeline.models.catalog import CatalogEntry
from pipeline.models.onnx_external_data import DATA_MARKS, is_data_of
from pipeline.models.pull_record import RECORD
from pipeline.models.store import install_hint

TEXTS = (".json", ".txt", ".csv", ".jinja")
WEIGHTS = (".safetensors", ".onnx")
PICKLES = {  # used, as tensors only, where there is nothing else; with the name of the file they are converted to
    "pytorch_model.bin": "model.safetensors",
    "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
}
_VARIANTS = (".fp16.", ".non_ema.")  # half-precision and non-EMA variants next to the full weights
_UNUSED = ("safety_checker/", "feature_extractor/")  # parts of a diffusers pipeline that prep never loads: 1.2 GB


def choose_files(
    repo_id: str, names: tuple[str, ...], entry: CatalogEntry | None, patterns: tuple[str, ...]
) -> dict[str, str]:
    """The files of a repository to download, each with its path in the model's folder; text files first.

    With `patterns` those that fit. Without, all text files, and the weights that the catalog names, else
    those of the top folder, or of the subfolders of a diffusers pipeline. PrepError for a name that leads
    out of the folder, and when a needed file is missing.
    """
    for name in names:
        refuse_unsafe_name(repo_id, name)
    prefix = f"{entry.subfolder}/" if entry and entry.subfolder else ""
    inside = sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))
    inside = [name for name in inside if name != RECORD and not any(part[0] == "." for part in name.split("/"))]
    needs = patterns or (entry.files if entry else ())
    chosen = [name for name in inside if _fits(name, patterns)] if patterns else _default_files(inside, needs)
    chosen = [name for name in chosen if name.endswith(TEXTS) or _has_weights(name) or name in PICKLES]
    chosen += [name for name in inside if name not in chosen and any(is_data_of(name, graph) for graph in chosen)]
    results = [PICKLES.get(name, name) for name in chosen]
    missing = [need for need in needs or ("*.safetensors",) if not _any(results, need)]
    if missing and not (not needs and _any(results, "*.onnx")):
        raise PrepError(
            f"{repo_id} has no {' and no '.join(missing)} that prep would load (safetensors, ONNX and text files).",
            install_hint(repo_id),
        )
    return {prefix + name: name for name in sorted(chosen, key=lambda name: not name.endswith(TEXTS))}


def refuse_unsafe_name(repo_id: str, name: str) -> None:
    """PrepError for a name that leads out of the model's folder on any system; the hub's list is not trusted."""
    parts = PurePosixPath(name).parts
    unsafe = any(ord(letter) < 32 or letter in "\\:" for letter in name) or name.startswith(("/", "~"))
    if unsafe or not parts or ".." in parts or str(PurePosixPath(name)) != name:
        raise PrepError(f"{repo_id} lists a file {name!r}, which may lie outside its folder.", "Do not use this model.")


def _default_files(names: list[str], needs: tuple[str, ...]) -> list[str]:
    """Text files, and one set of weights."""
    is_pipeline = "model_index.json" in names  # of diffusers, with its parts in subfolders
    candidates = [name for name in names if (is_pipeline and not name.startswith(_UNUSED)) or "/" not in name]
    weights = [name for name in candidates if _has_weights(name)]
    if needs:
        weights = [name for name in weights if _fits(name, needs)]
    else:
        weights = [n for n in weights if ("/" in n) == is_pipeline and not any(word in n for word in _VARIANTS)]
    weights = weights or [name for name in candidates if name in PICKLES][:1]
    return [name for name in candidates if name.endswith(TEXTS)] + weights


def _has_weights(name: str) -> bool:
    """Whether a file has weights by its name: an ONNX graph's may be in model.onnx.data or model.onnx_data_1."""
    return name.endswith(WEIGHTS) or any(mark in name for mark in DATA_MARKS)


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _any(names: list[str], pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)
