"""What each record counts for: augmented copies and near-duplicates of an image weigh one together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.imaging.near_duplicates import grouped
from pipeline.manifest import Manifest
from pipeline.record import ROOT_LENGTH

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MAX_COMPARED = 100_000  # images of a set; of more, only equal hashes count as near-duplicates
_COLUMNS = ["id", "subject", "class_name", "role", "image.phash", "drop.stage"]


@dataclass(frozen=True, slots=True)
class ImageGroup:
    """Whose images: a subject's, or a class's regularization images."""

    subject: str  # empty for regularization
    class_name: str


@dataclass(frozen=True, slots=True)
class RecordWeights:
    """The sets of a manifest; of every record the number of its set, -1 if it was dropped, and what it weighs."""

    groups: tuple[ImageGroup, ...]
    group_of: np.ndarray
    weights: np.ndarray

    @property
    def images(self) -> list[float]:
        """How many images each set has, near-duplicates counted once."""
        import numpy as np

        kept = self.group_of >= 0
        return np.bincount(self.group_of[kept], self.weights[kept], len(self.groups)).round(6).tolist()  # type: ignore[no-any-return]

    @property
    def records(self) -> list[int]:
        import numpy as np

        return np.bincount(self.group_of[self.group_of >= 0], minlength=len(self.groups)).tolist()  # type: ignore[no-any-return]


def compute_weights(manifest: Manifest, bits: int) -> RecordWeights:
    """Weigh every record of a manifest, row group by row group; memory holds some 60 bytes a record.

    Near-duplicates are images of one set whose perceptual hashes differ by at most `bits` of 64 bits, in chains
    too. Each of n near-duplicates weighs 1/n, so a tag that only some of them have counts in part.
    """
    import numpy as np

    sets: dict[ImageGroup, int] = {}
    parts = []
    last = np.empty((0, 2), np.uint64)
    for table in manifest.tables(_COLUMNS):
        numbers, roots, hashes = _row_group(table, sets)
        parts.append((numbers, _begins(roots, last), hashes))
        last = roots[-1:]
    if not parts:
        return RecordWeights((), np.empty(0, np.int32), np.empty(0))
    numbers, new, hashes = (np.concatenate(column) for column in zip(*parts, strict=True))
    del parts
    kept = np.flatnonzero(numbers >= 0)
    roots = np.cumsum(new, dtype=np.int32)[kept]
    first = np.append(True, roots[1:] != roots[:-1])[: len(kept)]
    heads = kept[first]  # of each root the first record that was kept
    family = np.cumsum(first, dtype=np.int32) - 1  # of each kept record the number of its head
    group = np.arange(len(heads), dtype=np.int32)
    for number in range(len(sets)):
        mine = np.flatnonzero((numbers[heads] == number) & (hashes[heads] != 0))
        group[mine] = mine[_first_alike(hashes[heads[mine]], bits)]
    weights = np.zeros(len(numbers))
    alike = group[family]
    weights[kept] = 1 / np.bincount(alike)[alike]
    return RecordWeights(tuple(sets), numbers, weights)


def _begins(roots: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Which rows are of another root than the row before; copies stand after the record they were made of."""
    import numpy as np

    before = np.concatenate([last, roots[:-1]]) if len(last) else np.concatenate([~roots[:1], roots[:-1]])
    begins: np.ndarray = (roots != before).any(axis=1)
    return begins


def _first_alike(hashes: np.ndarray, bits: int) -> np.ndarray:
    """For each image the first that it is a near-duplicate of, itself if there is none."""
    import numpy as np

    near = hashes if len(hashes) > MAX_COMPARED or not bits else grouped(hashes, bits)
    _, first, which = np.unique(near, return_index=True, return_inverse=True)
    return first[which]


def _row_group(table: pa.Table, sets: dict[ImageGroup, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every record: the number of its set, its root's id as two numbers, its hash; 0 where it has none."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    rows, first = _distinct(table.select(["role", "subject", "class_name"]))
    known = [_set(*(table[name][row].as_py() for name in ("role", "subject", "class_name"))) for row in first]
    numbers = np.array([sets.setdefault(one, len(sets)) for one in known], np.int32)[rows]
    numbers[pc.is_valid(table["drop"]).to_numpy()] = -1
    ids = pc.utf8_slice_codeunits(pc.ascii_rpad(table["id"], ROOT_LENGTH), 0, ROOT_LENGTH)
    phash = pc.fill_null(pc.struct_field(table["image"], "phash").cast(pa.string()), "0" * ROOT_LENGTH)
    return numbers, _letters(ids).view(np.uint64), _number(_letters(phash))


def _set(role: str, subject: str, class_name: str) -> ImageGroup:
    return ImageGroup("" if role == "reg" else subject, class_name)


def _distinct(table: pa.Table) -> tuple[np.ndarray, list[int]]:
    """For each row the number of its kind, and the first row of each kind, in order."""
    import numpy as np
    import pyarrow.compute as pc

    key = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        codes = pc.dictionary_encode(column.combine_chunks())
        key = key * len(codes.dictionary) + codes.indices.to_numpy()
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    return which, first.tolist()


def _letters(texts: pa.ChunkedArray) -> np.ndarray:
    """Texts of 16 ASCII letters each as rows of bytes, without a Python object a text."""
    import numpy as np

    array = texts.combine_chunks()
    start = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4)[0] if len(array) else 0
    letters = np.frombuffer(array.buffers()[2] or b"", np.uint8, len(array) * ROOT_LENGTH, int(start))
    return letters.reshape(-1, ROOT_LENGTH)


def _number(letters: np.ndarray) -> np.ndarray:
    """Rows of 16 hex digits as numbers of 64 bits."""
    import numpy as np

    nibbles = np.where(letters > ord("9"), (letters | 32) - ord("a") + 10, letters - ord("0")).astype(np.uint8)
    return (nibbles[:, ::2] << 4 | nibbles[:, 1::2]).view(">u8").astype(np.uint64).reshape(-1)
