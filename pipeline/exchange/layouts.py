"""The layouts that prep writes and reads, as two tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.exchange import caption_files, imagefolder, kohya, kohya_metadata, webdataset, zip
from pipeline.exchange.item import Form, Item
from pipeline.tag_text import printable


@dataclass(frozen=True, slots=True)
class Layout:
    """A way to hand a data set to other tools."""

    about: str
    write: Callable[[Iterable[Item], Path, Form], None]  # items in order of their places; the target does not exist
    next: str  # how its reader is told of it; {target} and {extension} are filled in


LAYOUTS: dict[str, Layout] = {
    "kohya": Layout(
        "kohya's folders with caption files",
        kohya.write,
        "kohya's trainer: --train_data_dir {target}/train_... --reg_data_dir {target}/reg_... "
        "--caption_extension {extension}",
    ),
    "kohya-metadata": Layout(
        "kohya's folders with a meta.json each and a dataset.toml",
        kohya_metadata.write,
        "kohya's trainer, started in {target}: --dataset_config dataset.toml",
    ),
    "imagefolder": Layout(
        "Hugging Face's imagefolder with metadata.jsonl",
        imagefolder.write,
        'datasets.load_dataset("imagefolder", data_dir="{target}")',
    ),
    "webdataset": Layout(
        "WebDataset's tar shards", webdataset.write, "webdataset: picture, .txt and .json under each key"
    ),
    "zip": Layout("a zip with kohya's folders", zip.write, "upload {target}; unpacked it is kohya's folders"),
}


@dataclass(frozen=True, slots=True)
class Reader:
    """A layout that prep recognises and reads."""

    about: str
    recognise: Callable[[Path], bool]
    read: Callable[[Path, str], Iterator[Item]]  # the second is 'smith man', for pictures that no name tells of
    whole: bool  # it says of every picture what it is for


READERS = (  # the first that recognises a folder reads it
    Reader("kohya's folders with metadata", kohya_metadata.recognise, kohya_metadata.read, True),
    Reader("Hugging Face's imagefolder", imagefolder.recognise, imagefolder.read, False),
    Reader("kohya's folders", kohya.recognise, kohya.read, True),
    Reader("pictures with caption files", caption_files.recognise, caption_files.read, False),
)


def find_reader(source: Path) -> Reader:
    """Who reads a folder; PrepError if it holds no picture."""
    for reader in READERS:
        if reader.recognise(source):
            return reader
    raise PrepError(
        f"There are no pictures in {printable(str(source))}.",
        "Name a folder of pictures, the parent of folders such as '10_smith man', a zip or tar shards.",
    )
