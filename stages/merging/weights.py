"""How much each record counts: augmented copies and near-duplicates of an image share the weight of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.imaging.near_duplicates import group_hashes
from pipeline.manifest import Manifest

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MAX_COMPARED = 100_000  # images of a group; of more, only equal hashes count as near-duplicates
_COLUMNS = ["id", "subject", "class_name", "role", "image.phash", "drop.stage"]
_ID = 16  # hex digits of an id, before the number of a copy


@dataclass(frozen=True, slots=True)
class ImageGroup:
    """The images of a subject, or the regularization images of a class."""

    subject: str  # empty for regularization
    class_name: str


@dataclass(frozen=True, slots=True)
class RecordWeights:
    """The groups of a manifest's images, and each record's group and weight."""

    groups: tuple[ImageGroup, ...]
    group_of: np.ndarray  # by record: the number of its group, -1 if it was dropped
    weights: np.ndarray  # by record

    @property
    def images(self) -> list[float]:
        """How many images each group has, near-duplicates counted once."""
        import numpy as np

        kept = self.group_of >= 0
        return np.bincount(self.group_of[kept], self.weights[kept], len(self.groups)).round(6).tolist()  # type: ignore[no-any-return]

    @property
    def records(self) -> list[int]:
        import numpy as np

        return np.bincount(self.group_of[self.group_of >= 0], minlength=len(self.groups)).tolist()  # type: ignore[no-any-return]


def compute_weights(manifest: Manifest, bits: int) -> RecordWeights:
    """Weigh every record of a manifest, row group by row group, in some 60 bytes of memory per record.

    Near-duplicates are images of one group whose perceptual hashes differ by at most `bits` of 64 bits, chains
    included. Each of n near-duplicates weighs 1/n, so a tag that only some of them have counts in part.
    """
    import numpy as np

    groups: dict[ImageGroup, int] = {}
    parts = []
    last = np.empty((0, 2), np.uint64)
    for table in manifest.tables(_COLUMNS):
        numbers, roots, hashes = _row_group(table, groups)
        parts.append((numbers, _root_starts(roots, last), hashes))
        last = roots[-1:]
    if not parts:
        return RecordWeights((), np.empty(0, np.int32), np.empty(0))
    numbers, starts, hashes = (np.concatenate(column) for column in zip(*parts, strict=True))
    del parts
    kept = np.flatnonzero(numbers >= 0)
    roots = np.cumsum(starts, dtype=np.int32)[kept]
    first = np.append(True, roots[1:] != roots[:-1])[: len(kept)]
    originals = kept[first]  # of each root the first record that was kept
    original_of = np.cumsum(first, dtype=np.int32) - 1  # by kept record, as a position in `originals`
    duplicate_of = np.arange(len(originals), dtype=np.int32)
    for number in range(len(groups)):
        members = np.flatnonzero((numbers[originals] == number) & (hashes[originals] != 0))
        duplicate_of[members] = members[_first_duplicates(hashes[originals[members]], bits)]
    weights = np.zeros(len(numbers))
    duplicates = duplicate_of[original_of]
    weights[kept] = 1 / np.bincount(duplicates)[duplicates]
    return RecordWeights(tuple(groups), numbers, weights)


def _root_starts(roots: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Which rows have another root than the row before; copies follow the record they were made from."""
    import numpy as np

    before = np.concatenate([last, roots[:-1]]) if len(last) else np.concatenate([~roots[:1], roots[:-1]])
    starts: np.ndarray = (roots != before).any(axis=1)
    return starts


def _first_duplicates(hashes: np.ndarray, bits: int) -> np.ndarray:
    """For each image the first one that it is a near-duplicate of, itself if there is none."""
    import numpy as np

    groups = group_hashes(hashes, bits if len(hashes) <= MAX_COMPARED else 0)
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return first[inverse]


def _row_group(table: pa.Table, groups: dict[ImageGroup, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By record: the number of its group, its root's id as two numbers, and its hash, 0 without one."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    rows, first = _distinct(table.select(["role", "subject", "class_name"]))
    found = [_group(*(table[name][row].as_py() for name in ("role", "subject", "class_name"))) for row in first]
    numbers = np.array([groups.setdefault(group, len(groups)) for group in found], np.int32)[rows]
    numbers[pc.is_valid(table["drop"]).to_numpy()] = -1
    ids = pc.utf8_slice_codeunits(pc.ascii_rpad(table["id"], _ID), 0, _ID)
    phash = pc.fill_null(pc.struct_field(table["image"], "phash").cast(pa.string()), "0" * _ID)
    return numbers, _letters(ids).view(np.uint64), _parse_hex(_letters(phash))


def _group(role: str, subject: str, class_name: str) -> ImageGroup:
    return ImageGroup("" if role == "reg" else subject, class_name)


def _distinct(table: pa.Table) -> tuple[np.ndarray, list[int]]:
    """By row the number of its distinct values, and the first row with each, in order."""
    import numpy as np
    import pyarrow.compute as pc

    key = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        codes = pc.dictionary_encode(column.combine_chunks())
        key = key * len(codes.dictionary) + codes.indices.to_numpy()
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return inverse, first.tolist()


def _letters(texts: pa.ChunkedArray) -> np.ndarray:
    """Texts of 16 ASCII letters each as rows of bytes, without one Python object per text."""
    import numpy as np

    array = texts.combine_chunks()
    start = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4)[0] if len(array) else 0
    return np.frombuffer(array.buffers()[2] or b"", np.uint8, len(array) * _ID, int(start)).reshape(-1, _ID)


def _parse_hex(letters: np.ndarray) -> np.ndarray:
    """Rows of 16 hex digits as 64-bit numbers."""
    import numpy as np

    nibbles = np.where(letters > ord("9"), (letters | 32) - ord("a") + 10, letters - ord("0")).astype(np.uint8)
    return (nibbles[:, ::2] << 4 | nibbles[:, 1::2]).view(">u8").astype(np.uint64).reshape(-1)
