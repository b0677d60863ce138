"""Opens a generator for a base model on disk, with nothing loaded yet but its configuration and tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.workspace import Workspace
from training.models.families import detect_family
from training.models.loader import open_base_model
from training.options.objective import ObjectiveOptions
from training.sampling.embeddings import EmbeddingLibrary, list_embeddings
from training.sampling.image_generator import ImageGenerator
from training.sampling.named_networks import NamedNetworks
from training.sampling.network_files import network_folders
from training.sampling.parts_on_demand import PartsOnDemand, compute_device, denoiser_dtype

if TYPE_CHECKING:
    from training.models.base_model import BaseFiles
    from training.sampling.parts_on_demand import Precision


@dataclass(frozen=True, slots=True)
class NetworkFolders:
    """Where the files are that prompts name, besides the workspace's runs and prep's models folder."""

    loras: Sequence[Path] = ()
    embeddings: Sequence[Path] = ()


def open_generator(
    base: BaseFiles, home: Workspace, precision: Precision = "auto", folders: NetworkFolders | None = None
) -> ImageGenerator:
    """A generator on the GPU if there is one. The configuration of a single file goes to the cache of `home`."""
    checkpoint = open_base_model(base, home.cache)
    family = detect_family(checkpoint)
    device = compute_device()
    parts = PartsOnDemand(family, checkpoint, device, denoiser_dtype(family, precision, device))
    objective = family.objective(checkpoint, ObjectiveOptions())
    tokenizers = checkpoint.tokenizers()
    made = ImageGenerator.build(checkpoint, family, parts, tokenizers, objective)
    given = folders or NetworkFolders()
    named = list_embeddings(network_folders("embeddings", given.embeddings, home))
    widths = {part: int(checkpoint.config(part)["hidden_size"]) for part in family.targets if part in tokenizers}
    return replace(
        made,
        model=replace(made.model, home=home),
        networks=NamedNetworks(network_folders("loras", given.loras, home), family, checkpoint),
        embeddings=EmbeddingLibrary.open(named, widths, tokenizers[family.encoders[0]]),
    )
