"""The images of a dataset as arrays of a few numbers each, so that ten million fit in memory."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.checks.caption_pages import RowPage, dictionary_codes
from pipeline.checks.rule_context import CaptionPage
from pipeline.imaging.near_duplicates import group_hashes
from pipeline.record import root_of
from pipeline.tag_text import normalize_tag

if TYPE_CHECKING:
    import numpy as np

# By the number of images, how many bits the perceptual hashes of near-duplicates may differ in. Comparing
# a million at 6 bits takes minutes, at 2 bits seconds.
NEAR = ((100_000, 6), (1_500_000, 2))
ROLES = ("train", "reg", "val")
_RESERVED = 100_000  # images that the arrays have room for at first
_BROAD = {"simple background", "blurry background", "background"}  # tags that name no background in particular


@dataclass(frozen=True, slots=True)
class DatasetArrays:
    """One entry per image in every array; `subject` and `class_name` are indices into the lists."""

    rows: np.ndarray  # int32: its row in the manifest
    root_hash: np.ndarray  # uint64: of its source image, shared by all its copies
    pixel_hash: np.ndarray  # uint64: of its pixels
    caption_hash: np.ndarray  # uint64: of its caption; 0 for none
    role: np.ndarray  # int8: index into ROLES
    subject: np.ndarray  # int16
    class_name: np.ndarray  # int16
    repeats: np.ndarray  # int32: how often an epoch shows it
    width: np.ndarray  # int32
    height: np.ndarray  # int32
    cropped_fraction: np.ndarray  # float32: share of the source that was cropped
    upscale: np.ndarray  # float32: factor by which the source was enlarged
    sharpness: np.ndarray  # float32, 0 to 1; NaN where it was not measured
    named_values: np.ndarray  # int8, a column per exclusive group: the value in the caption
    duplicate_group: np.ndarray  # int32: near-duplicates share a number
    duplicate_bits: int  # bits in which their hashes may differ; -1: not searched
    subjects: list[str]
    classes: list[str]
    backgrounds: dict[tuple[int, str], int]  # images by subject and background tag

    def __len__(self) -> int:
        return len(self.rows)

    def with_role(self, role: str) -> np.ndarray:
        """The mask of images of a role."""
        mask: np.ndarray = self.role == ROLES.index(role)
        return mask


@dataclass(slots=True)
class _Words:
    """Distinct words, numbered in order of appearance."""

    numbers: dict[str, int] = field(default_factory=dict)

    def __call__(self, page: RowPage, name: str) -> np.ndarray:
        import numpy as np

        codes, words = page.words(name)
        known = [self.numbers.setdefault(word, len(self.numbers)) for word in words]
        numbers: np.ndarray = np.array([*known, -1], np.int16)[codes]
        return numbers


@dataclass(slots=True)
class _Columns:
    """Growing arrays, each one block: joining thousands of pieces would fragment the memory.

    What is reserved beyond the end takes no memory until it is written.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    count: int = 0

    def add(self, part: dict[str, np.ndarray]) -> None:
        import numpy as np

        more = len(next(iter(part.values())))
        for name, values in part.items():
            array = self.arrays.get(name)
            if array is None or len(array) < self.count + more:
                grown = np.empty((max(_RESERVED, 2 * (self.count + more)), *values.shape[1:]), values.dtype)
                if array is not None:
                    grown[: self.count] = array[: self.count]
                array = self.arrays[name] = grown
            array[self.count : self.count + more] = values
        self.count += more

    def all(self) -> dict[str, Any]:
        return {name: array[: self.count] for name, array in self.arrays.items()}


def load_arrays(pages: Iterable[tuple[CaptionPage, np.ndarray]], repeats: Mapping[str, int]) -> DatasetArrays | None:
    """The arrays of all images, from pages and the exclusive values in their captions; None without images.

    `repeats` by subject are those of images that have no folder.
    """
    import numpy as np

    subjects, classes, scenes = _Words(), _Words(), Counter[tuple[int, str]]()
    columns = _Columns()
    for caption_page, named_values in pages:
        page = caption_page.columns
        subject = subjects(page, "subject")
        sharpness = _annotated(page, subject, scenes)
        columns.add(
            {
                "rows": page.rows.astype(np.int32),
                "root_hash": _hashed(map(root_of, page.column("id").to_pylist())),
                "pixel_hash": _hashed(page.column("image.pixel_sha256").to_pylist()),
                "phash": _digits(page.column("image.phash")),
                "caption_hash": _hashed(page.column("caption").to_pylist()),
                "role": _roles(page),
                "subject": subject,
                "class_name": classes(page, "class_name"),
                "repeats": _repeats(page, repeats),
                "width": page.numbers("image.width", 0).astype(np.int32),
                "height": page.numbers("image.height", 0).astype(np.int32),
                "cropped_fraction": page.numbers("crop.cropped_fraction", 0).astype(np.float32),
                "upscale": page.numbers("crop.upscale", 1).astype(np.float32),
                "sharpness": sharpness,
                "named_values": named_values,
            }
        )
    if not columns.count:
        return None
    joined = columns.all()
    joined |= {"subjects": list(subjects.numbers), "classes": list(classes.numbers), "backgrounds": dict(scenes)}
    group, bits = _alike(joined.pop("phash"))
    return DatasetArrays(**joined, duplicate_group=group, duplicate_bits=bits)


def _alike(phash: np.ndarray) -> tuple[np.ndarray, int]:
    """Groups of near-duplicates, and in how many bits they may differ; -1 where there are too many to compare."""
    import numpy as np

    alone = np.arange(len(phash), dtype=np.int32)
    bits = next((bits for most, bits in NEAR if len(phash) <= most), -1)
    if bits < 0:
        return alone, bits
    return group_hashes(phash, bits).astype(np.int32), bits


def _hashed(texts: Iterable[str | None]) -> np.ndarray:
    """A number per text; 0 for none."""
    import numpy as np

    # Python's own hash, of 64 bits: two different texts of ten million share one with a chance of 3 in a million.
    return np.array([hash(text or "") for text in texts], np.int64).view(np.uint64)  # hash("") is 0


def _digits(column: Any) -> np.ndarray:
    """16 hex digits as a number; 0 for anything else."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    good = pc.fill_null(pc.match_substring_regex(column, "^[0-9a-f]{16}$"), False)
    whole = pc.if_else(good, column, "0" * 16).cast(pa.binary()).cast(pa.binary(16))
    letters = np.frombuffer(whole.buffers()[1], np.uint8)[16 * whole.offset : 16 * (whole.offset + len(whole))]
    nibbles = np.where(letters >= ord("a"), letters - ord("a") + 10, letters - ord("0")).reshape(-1, 8, 2)
    numbers: np.ndarray = np.ascontiguousarray(nibbles[..., 0] << 4 | nibbles[..., 1]).view(">u8").ravel()
    return numbers.astype(np.uint64)


def _roles(page: RowPage) -> np.ndarray:
    import numpy as np

    codes, words = page.words("role")
    known = np.array([ROLES.index(word) if word in ROLES else -1 for word in [*words, ""]], np.int8)
    roles: np.ndarray = known[codes]
    return roles


def _repeats(page: RowPage, repeats: Mapping[str, int]) -> np.ndarray:
    """The repeats in the folder's name; without a folder the subject's, or 1."""
    import numpy as np
    import pyarrow.compute as pc

    folders, names = dictionary_codes(
        pc.struct_field(pc.extract_regex(page.column("dataset_path"), r"(?:^|/)(?P<n>\d{1,9})_?[^/]*/[^/]*$"), "n")
    )
    in_name = np.array([int(name) if name else 0 for name in [*names, ""]], np.int32)[folders]
    subjects, tokens = page.words("subject")
    by_subject = np.array([repeats.get(token, 1) for token in [*tokens, ""]], np.int32)[subjects]
    repeats_shown: np.ndarray = np.where(in_name > 0, in_name, by_subject)
    return repeats_shown


def _annotated(page: RowPage, subject: np.ndarray, scenes: Counter[tuple[int, str]]) -> np.ndarray:
    """The sharpness that a tagger measured; also counts the background tags of each subject."""
    import numpy as np
    import pyarrow.compute as pc

    lists = page.column("annotations")
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(lists)
    text, kind = (_encoded(pc.struct_field(flat, name)) for name in ("text", "kind"))
    scores = pc.fill_null(pc.struct_field(flat, "score"), 1.0).to_numpy(zero_copy_only=False)
    sharpness = np.full(len(page), np.nan, np.float32)
    measured = _where(text, pc.equal(text.dictionary, "sharpness"))
    measured = measured[_among(kind, pc.equal(kind.dictionary, "measure"), measured)]
    sharpness[rows[measured]] = scores[measured]
    shown = _where(text, pc.ends_with(pc.ascii_lower(text.dictionary), "background"))
    shown = shown[_among(kind, pc.equal(kind.dictionary, "tag"), shown) & (scores[shown] >= 0.5)]
    # An image with the same tag from two taggers counts once.
    codes = _numbers(text)[shown]
    pairs = np.unique(np.stack([rows[shown], codes], axis=1), axis=0) if len(shown) else np.zeros((0, 2), int)
    for (who, word), count in Counter(zip(subject[pairs[:, 0]].tolist(), pairs[:, 1].tolist(), strict=True)).items():
        if name := background_tag(text.dictionary[word].as_py()):
            scenes[who, name] += count
    return sharpness


@functools.lru_cache(100_000)
def background_tag(tag: str) -> str:
    """The normalized tag if it names a background, such as 'white background'; else empty."""
    shown = normalize_tag(tag)
    return shown if shown.endswith(" background") and shown not in _BROAD else ""


def _encoded(array: Any) -> Any:
    """Texts as an Arrow dictionary; most may be sentences, which never become Python strings."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return array if pa.types.is_dictionary(array.type) else pc.dictionary_encode(array)


def _numbers(words: Any) -> np.ndarray:
    return words.indices.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _where(words: Any, wanted: Any) -> np.ndarray:
    """The indices of texts whose dictionary entries are wanted."""
    import numpy as np

    mask = wanted.to_numpy(zero_copy_only=False)
    return np.flatnonzero(mask[_numbers(words)]) if mask.any() else np.zeros(0, np.int64)


def _among(words: Any, wanted: Any, places: np.ndarray) -> np.ndarray:
    """Whether the texts at some indices are wanted."""
    found: np.ndarray = wanted.to_numpy(zero_copy_only=False)[_numbers(words)[places]]
    return found
