"""The layouts that prep writes and reads, as two tables: LAYOUTS for export and READERS for import."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.exchange import caption_files, imagefolder, kohya, kohya_metadata, webdataset, zip
from pipeline.exchange.item import DatasetItem, ExportOptions
from pipeline.kohya_faults import ReaderFault
from pipeline.tag_text import escape_control


@dataclass(frozen=True, slots=True)
class ExportLayout:
    """A layout that other tools read."""

    description: str
    # Takes the items in order of their paths, and a target that does not exist.
    write: Callable[[Iterable[DatasetItem], Path, ExportOptions], None]
    next_step: str  # how to use it; {target}, {extension}, {folders} and {buckets} are filled in


LAYOUTS: dict[str, ExportLayout] = {
    "kohya": ExportLayout(
        "kohya's folders with caption files and a dataset.toml",
        kohya.write,
        "kohya's trainer: {folders} --caption_extension {extension} {buckets}; or, started in {target}: "
        "--dataset_config dataset.toml",
    ),
    "kohya-metadata": ExportLayout(
        "kohya's folders with a meta.json each and a dataset.toml",
        kohya_metadata.write,
        "kohya's trainer, started in {target}: --dataset_config dataset.toml",
    ),
    "imagefolder": ExportLayout(
        "Hugging Face's imagefolder with metadata.jsonl",
        imagefolder.write,
        'datasets.load_dataset("imagefolder", data_dir="{target}")',
    ),
    "webdataset": ExportLayout(
        "WebDataset's tar shards", webdataset.write, "webdataset: image, .txt and .json under each key"
    ),
    "zip": ExportLayout(
        "a zip with kohya's folders", zip.write, "upload {target}; unpacked, it is a folder of kohya's layout"
    ),
}


@dataclass(frozen=True, slots=True)
class ImportLayout:
    """A layout that prep detects and reads."""

    description: str
    detect: Callable[[Path], bool]
    # Yields the images, and what is left out. The text is a folder's, such as 'smith man', for images without one.
    read: Callable[[Path, str], Iterator[DatasetItem | ReaderFault]]


READERS = (  # the first that detects a folder reads it
    ImportLayout("kohya's folders with metadata", kohya_metadata.detect, kohya_metadata.read),
    ImportLayout("Hugging Face's imagefolder", imagefolder.detect, imagefolder.read),
    ImportLayout("kohya's folders", kohya.detect, kohya.read),
    ImportLayout("images with caption files", caption_files.detect, caption_files.read),
)


def find_reader(source: Path) -> ImportLayout:
    """The reader of a folder's layout; PrepError if it holds no image."""
    for reader in READERS:
        if reader.detect(source):
            return reader
    raise PrepError(
        f"There are no images in {escape_control(str(source))}.",
        "Name a folder of images, the parent of folders such as '10_smith man', a zip or a folder of tar shards.",
    )
