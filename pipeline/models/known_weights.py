"""Which published model a folder holds, by its hub id or by the hashes of its weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.models.catalog import CACHED, CATALOG, catalog_entry, short_name
from pipeline.models.hub_files import TEXTS
from pipeline.models.pull_record import read_record
from pipeline.models.store import models_folder


def model_name(models: Iterable[Model]) -> str:
    """The short name of the model with these files; empty without files.

    A hub id is believed. Of a folder without one the weights decide, and its own name only where they are unknown:
    a folder can have any name.
    """
    files = [model for model in models if model.sha256]
    if not files:
        return ""
    name = files[0].name.rpartition("/")[0]
    weights = [file.sha256 for file in files if not file.name.endswith(TEXTS)]
    known = name if "/" in name else repository_of(weights)
    return short_name(known) if known else name.rpartition("--")[2]


def repository_of(hashes: list[str]) -> str:
    """The hub id of a model on this machine, or in the catalog, that has files of all these sha256; empty without one.

    Downloads of prep's are recorded with their hashes, and the Hugging Face cache names large files by theirs.
    """
    found = [repo_id for repo_id, known in _known_hashes().items() if hashes and known.issuperset(hashes)]
    found += [] if not hashes else _cached_with(hashes)
    return min(found, key=lambda repo_id: (catalog_entry(repo_id) is None, repo_id), default="")


def _known_hashes() -> dict[str, set[str]]:
    known = {entry.repo_id: {entry.sha256} for entry in CATALOG if entry.sha256}
    for folder in models_folder().glob("*--*"):
        try:
            pulled = read_record(folder)
        except PrepError:
            continue
        if pulled:
            known[pulled.name] = known.get(pulled.name, set()) | {file.sha256 for file in pulled.files.values()}
    return known


def _cached_with(hashes: list[str]) -> list[str]:
    from huggingface_hub import constants

    folders = [blob.parent for blob in Path(constants.HF_HUB_CACHE).glob(f"{CACHED}*--*/blobs/{hashes[0]}")]
    complete = [folder for folder in folders if all((folder / one).is_file() for one in hashes)]
    return [folder.parent.name.removeprefix(CACHED).replace("--", "/", 1) for folder in complete]
