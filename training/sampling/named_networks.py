"""The networks that the prompts of a job name: read once, applied to a part while it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from training.sampling.adapters import LoadedNetwork, NetworkBase, applied_networks, open_networks

if TYPE_CHECKING:
    from training.models.family import Family, Modules
    from training.models.loader import BaseModel
    from training.sampling.prompt.networks import NetworkTag


@dataclass
class NamedNetworks:
    """The networks of a job, from the files in some folders."""

    folders: Sequence[Path]
    family: Family
    checkpoint: BaseModel
    opened: dict[tuple[NetworkTag, ...], list[LoadedNetwork]] = field(default_factory=dict)
    base: NetworkBase | None = None  # once a prompt names a network

    def open(self, tags: tuple[NetworkTag, ...]) -> list[LoadedNetwork]:
        """The networks of a prompt, their files read; PrepError where one is missing or does not fit the base model."""
        if not tags:
            return []
        if tags not in self.opened:
            self.base = self.base or NetworkBase.of(self.family, self.checkpoint)
            self.opened[tags] = open_networks(tags, self.folders, self.base)
        return self.opened[tags]

    @contextmanager
    def applied(self, modules: Modules, tags: tuple[NetworkTag, ...]) -> Iterator[None]:
        """While it lasts, these modules by part have the networks of a prompt; nothing of them stays."""
        with ExitStack() as stack:
            for part, module in modules.items() if tags else ():
                stack.enter_context(applied_networks(self.open(tags), self.family, part, module))
            yield
