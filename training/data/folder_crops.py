"""How images of foreign folders are used: as they are, or cropped to buckets; measured once and kept in the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.imaging.cropping import CropRule
from pipeline.imaging.image_file import WHITE, phash, pixel_hash, thumbnail, upright_size
from pipeline.imaging.window import Region
from pipeline.record import CropBox, Drop
from pipeline.workspace import Workspace, write_atomic

_VERSION = 1  # raise it when the same image and resolution give another crop
_HASHED_SIDE = 256  # pixels of the image that the perceptual hash of an uncropped image is taken of


@dataclass(frozen=True, slots=True)
class FolderImage:
    """The crop of an image and the hashes of its pixels."""

    crop: CropBox
    pixel_sha256: str  # of an uncropped image the hash of its file
    phash: str


@dataclass(slots=True)
class FolderCrops:
    """The crops of images by the sha256 of their files, all at one resolution; 0: the images as they are.

    They are kept in the workspace's cache, if it has one: reading a folder again decodes no image.
    """

    workspace: Workspace
    resolution: int
    known: dict[str, FolderImage | Drop] = field(default_factory=dict)
    added: bool = False

    @classmethod
    def read(cls, workspace: Workspace, resolution: int) -> FolderCrops:
        """What the cache knows; nothing if it is missing or damaged."""
        crops = cls(workspace, resolution)
        try:
            plain = json.loads(crops._file.read_bytes())
            crops.known = {sha256: _from_plain(entry) for sha256, entry in plain.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            crops.known = {}
        return crops

    def of(self, data: bytes, sha256: str) -> FolderImage | Drop:
        """The crop of an image file, or why there is none. Raises UnreadableImage."""
        known = self.known.get(sha256)
        if known is None:
            known = self._cropped(data) if self.resolution else _whole(data, sha256)
            self.known[sha256], self.added = known, True
        return known

    def save(self) -> None:
        """Keep what is new; nothing is written where prep has no cache, as before a first run outside a workspace."""
        if self.added and (self.workspace.recipe.is_file() or (self.workspace.cache / "lock").is_file()):
            plain = {sha256: dataclasses.asdict(entry) for sha256, entry in sorted(self.known.items())}
            write_atomic(self._file, json.dumps(plain).encode())
            self.added = False

    @property
    def _file(self) -> Path:
        name = hashlib.sha256(f"{_VERSION} {self.resolution}".encode()).hexdigest()[:16]
        return self.workspace.cache / "folders" / f"{name}.json"

    def _cropped(self, data: bytes) -> FolderImage | Drop:
        width, height = upright_size(data)
        crop = CropRule.for_resolution(self.resolution).crop(data, (width, height), Region(0, 0, width, height))
        return crop if isinstance(crop, Drop) else FolderImage(crop[0], pixel_hash(crop[1]), phash(crop[1]))


def _whole(data: bytes, sha256: str) -> FolderImage:
    width, height = upright_size(data)
    crop = CropBox(width, height, width, height, 0, 0, width, height, WHITE, "whole", 1.0, 0.0)
    return FolderImage(crop, sha256, phash(thumbnail(data, _HASHED_SIDE)))


def _from_plain(entry: dict[str, object]) -> FolderImage | Drop:
    """An entry of the cache; raises KeyError or TypeError for anything else."""
    if "reason" in entry:
        return Drop(**{name: str(text) for name, text in entry.items()})
    crop = entry["crop"]
    if not isinstance(crop, dict):
        raise TypeError("a crop is no object")
    return FolderImage(CropBox(**crop), str(entry["pixel_sha256"]), str(entry["phash"]))
