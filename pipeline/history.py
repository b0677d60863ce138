"""A manifest's history: for each stage that led to it, the version, options, input and models that decided its rows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a stage used, as provenance records it."""

    name: str
    sha256: str
    revision: str = ""


@dataclass(frozen=True, slots=True)
class HistoryStep:
    """One entry of a manifest's history: everything that decided its content."""

    stage: str
    version: int
    params: dict[str, Any]
    input: str  # digest of the manifest that the stage read
    models: tuple[Model, ...] = ()
    libraries: dict[str, str] = field(default_factory=dict)  # recorded, not part of the key
    folders: dict[str, str] = field(default_factory=dict, compare=False)  # where a scan found images; not in the key

    @property
    def key(self) -> str:
        """sha256 over everything but the versions of libraries: the same key means the same result."""
        parts = [self.stage, self.version, self.params, self.input, [dataclasses.astuple(m) for m in self.models]]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> HistoryStep:
        """A step as a manifest's metadata stores it; KeyError or TypeError when a field is missing or unknown."""
        known = {"folders": {}} | values  # earlier manifests do not have it
        fields = {f.name: known[f.name] for f in dataclasses.fields(cls)}
        return cls(**fields | {"models": tuple(Model(**model) for model in values["models"])})

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"key": self.key}
