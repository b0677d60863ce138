"""The sample pictures are what make.py makes, and what their README says."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

import sample_data
from sample_data import make

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")
FOLDER = Path(sample_data.__file__).parent
LOSSLESS = {"PNG", "TIFF", "BMP"}


def shipped() -> set[str]:
    return {str(p.relative_to(FOLDER)) for f in ("collins", "cat", "woman") for p in (FOLDER / f).iterdir()}


def colours(image: Image.Image) -> np.ndarray:
    """As people see it: white behind what is transparent."""
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"), dtype=np.float64)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.mean((a - b) ** 2), 1e-9))


@pytest.mark.parametrize("cut", make.CUTS, ids=lambda cut: cut.path)
def test_shipped_pixels_are_those_of_the_photograph(cut):
    """Against the photograph itself, cut out here with numpy where nothing was scaled."""
    with Image.open(FOLDER / cut.path) as image:
        assert image.format == cut.format
        assert image.getexif().get(0x0112, 1) == cut.orientation
        assert image.mode == cut.mode
        seen = colours(ImageOps.exif_transpose(image))
    if cut.side or cut.mode in ("RGBA", "CMYK"):
        expected = colours(make.picture(cut))
    else:
        left, top, right, bottom = cut.box
        expected = np.asarray(make.photograph(cut.source))[top:bottom, left:right]
        expected = colours(Image.fromarray(expected).convert("L" if cut.mode == "L" else "RGB"))
    assert seen.shape == expected.shape
    if cut.format in LOSSLESS:
        assert np.array_equal(seen, expected)
    else:
        # The GIF with its 128 colours loses most: 32.1 dB.
        assert psnr(seen, expected) > 31


def test_the_folder_holds_what_make_makes_and_the_readme_lists(tmp_path):
    make.make(tmp_path)
    made = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    listed, folder = set(), ""
    for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"## (\w+)/ ", line):
            folder = heading[1]
        elif (row := re.match(r"\| `([^`]+)` \|", line)) and folder:
            listed.add(f"{folder}/{row[1]}")
    assert shipped() == made == listed


def test_making_twice_gives_the_same_bytes():
    for cut in make.CUTS[:4]:
        assert make.encode(cut) == make.encode(cut)


def test_the_trouble_files_are_trouble():
    for copy, original in make.COPIES.items():
        assert (FOLDER / copy).read_bytes() == (FOLDER / original).read_bytes()
    for part, whole in make.TRUNCATED.items():
        data = (FOLDER / part).read_bytes()
        assert (FOLDER / whole).read_bytes().startswith(data)
        with pytest.raises(OSError, match="truncated"):
            Image.open(io.BytesIO(data)).load()
    with pytest.raises(UnidentifiedImageError):
        Image.open(FOLDER / "collins" / "notes.txt")
    with Image.open(FOLDER / "collins" / "cutout.png") as image:
        alpha = np.asarray(image.getchannel("A"))
        assert alpha[0, 0] == 0 and alpha[210, 170] == 255 and np.count_nonzero((alpha > 0) & (alpha < 255)) > 100


def test_all_together_stay_small():
    assert sum((FOLDER / path).stat().st_size for path in shipped()) < 2_000_000
