"""The layouts that prep writes and reads, as two tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.exchange import caption_files, imagefolder, kohya, kohya_metadata, webdataset, zip
from pipeline.exchange.item import DatasetItem, ExportOptions
from pipeline.tag_text import escape_control


@dataclass(frozen=True, slots=True)
class ExportLayout:
    """A way to hand a data set to other tools."""

    description: str
    write: Callable[
        [Iterable[DatasetItem], Path, ExportOptions], None
    ]  # items in order of their places; the target does not exist
    next_step: str  # how its reader is told of it; {target} and {extension} are filled in


LAYOUTS: dict[str, ExportLayout] = {
    "kohya": ExportLayout(
        "kohya's folders with caption files",
        kohya.write,
        "kohya's trainer: --train_data_dir {target}/train_... --reg_data_dir {target}/reg_... "
        "--caption_extension {extension}",
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
    "zip": ExportLayout("a zip with kohya's folders", zip.write, "upload {target}; unpacked it is kohya's folders"),
}


@dataclass(frozen=True, slots=True)
class ImportLayout:
    """A layout that prep recognises and reads."""

    description: str
    detect: Callable[[Path], bool]
    read: Callable[[Path, str], Iterator[DatasetItem]]  # the second is 'smith man', for images that no name tells of
    whole: bool  # it says of every image what it is for


READERS = (  # the first that recognises a folder reads it
    ImportLayout("kohya's folders with metadata", kohya_metadata.detect, kohya_metadata.read, True),
    ImportLayout("Hugging Face's imagefolder", imagefolder.detect, imagefolder.read, False),
    ImportLayout("kohya's folders", kohya.detect, kohya.read, True),
    ImportLayout("images with caption files", caption_files.detect, caption_files.read, False),
)


def find_reader(source: Path) -> ImportLayout:
    """Who reads a folder; PrepError if it holds no image."""
    for reader in READERS:
        if reader.detect(source):
            return reader
    raise PrepError(
        f"There are no images in {escape_control(str(source))}.",
        "Name a folder of images, the parent of folders such as '10_smith man', a zip or tar shards.",
    )
