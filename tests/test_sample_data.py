"""The sample images are what make.py makes, and what their README says."""

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

import sample_data
from sample_data import drawn, make
from sample_data.world.render import render_scene
from sample_data.world.scene import CAST, cast_scene, class_scene

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")
FOLDER = Path(sample_data.__file__).parent
LOSSLESS = {"PNG", "TIFF", "BMP"}
FOLDERS = ("collins", "cat", "woman", "smith", "wren", "man", "girl")
DRAWN = {shot.path: shot for shot in drawn.DRAWN_IMAGES}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make.make(folder)
    return folder


def shipped() -> set[str]:
    return {str(p.relative_to(FOLDER)) for f in FOLDERS for p in (FOLDER / f).iterdir()}


def colors(image: Image.Image) -> np.ndarray:
    """As people see it: white behind what is transparent."""
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"), dtype=np.float64)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.mean((a - b) ** 2), 1e-9))


@pytest.mark.parametrize("cut", make.PHOTO_CROPS, ids=lambda cut: cut.path)
def test_shipped_pixels_are_those_of_the_photograph(cut):
    """Against the photograph itself, cut out here with numpy where nothing was scaled."""
    with Image.open(FOLDER / cut.path) as image:
        assert image.format == cut.format
        assert image.getexif().get(0x0112, 1) == cut.orientation
        assert image.mode == cut.mode
        seen = colors(ImageOps.exif_transpose(image))
    if cut.side or cut.mode in ("RGBA", "CMYK"):
        expected = colors(make.crop_photo(cut))
    else:
        left, top, right, bottom = cut.box
        expected = np.asarray(make.photograph(cut.source))[top:bottom, left:right]
        expected = colors(Image.fromarray(expected).convert("L" if cut.mode == "L" else "RGB"))
    assert seen.shape == expected.shape
    if cut.format in LOSSLESS:
        assert np.array_equal(seen, expected)
    else:
        # The GIF with its 128 colors loses most: 32.1 dB.
        assert psnr(seen, expected) > 31


def test_the_folder_holds_what_make_makes_and_the_readme_lists(made):
    files = {str(p.relative_to(made)) for p in made.rglob("*") if p.is_file()}
    listed, folder = set(), ""
    for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"## (\w+)/ ", line):
            folder = heading[1]
        elif (row := re.match(r"\| `([^`]+)` \|", line)) and folder:
            listed.add(f"{folder}/{row[1]}")
    listed |= {path for path in DRAWN if path.startswith(("man/", "girl/"))}  # a sentence in the README
    assert shipped() | {"world.png"} == files == listed | {"world.png"}
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for folder, what in (("man", "men"), ("girl", "girls")):
        assert f"## {folder}/ - {sum(path.startswith(folder + '/') for path in DRAWN)} rendered {what} " in readme


def test_making_twice_gives_the_same_bytes():
    for cut in make.PHOTO_CROPS[:4]:
        assert make.encode(make.crop_photo(cut), cut) == make.encode(make.crop_photo(cut), cut)
    for shot in drawn.DRAWN_IMAGES[:4]:
        assert make.encode(drawn.draw_image(shot), shot) == make.encode(drawn.draw_image(shot), shot)


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
    size = {path: (FOLDER / path).stat().st_size for path in shipped()}
    assert sum(size.values()) - sum(size[path] for path in DRAWN) < 2_000_000
    assert sum(size[path] for path in DRAWN) < 3_000_000
    assert (FOLDER / "world.png").stat().st_size < 300_000


@pytest.mark.parametrize("path", [*DRAWN, "world.png"])
def test_shipped_pixels_are_those_that_make_draws(path, made):
    """Against what make makes here and now: equal where nothing is lost, else as near as two encoders come."""
    with Image.open(FOLDER / path) as image, Image.open(made / path) as again:
        shot = DRAWN.get(path, drawn.DrawnImage(path, 0, *image.size, "PNG", "P"))
        assert (image.format, image.mode, image.getexif().get(0x0112, 1)) == (shot.format, shot.mode, shot.orientation)
        seen, expected = (colors(ImageOps.exif_transpose(one)) for one in (image, again))
    assert seen.shape == (shot.height - 2 * shot.margin, shot.width - 2 * shot.margin, 3)
    if shot.format in LOSSLESS:
        assert np.array_equal(seen, expected)
    else:
        assert psnr(seen, expected) > 45


def test_the_drawn_are_who_their_folders_say():
    """Painted here from the scenes themselves, not by the table's own code."""
    for path, scene in (
        ("smith/kitchen.png", cast_scene("smith", 3)),
        ("wren/tea.png", cast_scene("wren", 45)),
        ("man/117.jpg", class_scene("boy", 117)),
        ("girl/073.jpg", class_scene("girl", 73)),
    ):
        with Image.open(FOLDER / path) as image:
            assert psnr(colors(image), colors(render_scene(scene, *image.size))) > 30
    people = {path: drawn.scene_for(shot).person for path, shot in DRAWN.items()}
    assert {path.split("/")[0] for path, person in people.items() if person in CAST.values()} == {"smith", "wren"}
    assert {people[path].gender for path in people if path.startswith("man/")} == {"boy"}
    assert {people[path].gender for path in people if path.startswith("girl/")} == {"girl"}
    assert [sum(path.startswith(f"{folder}/") for path in people) for folder in FOLDERS[3:]] == [25, 12, 24, 14]


def test_sizes_are_mixed():
    sides = {(shot.width, shot.height) for shot in drawn.DRAWN_IMAGES if shot.path.startswith(("smith/", "wren/"))}
    assert len(sides) > 12 and {(640, 220), (220, 640)} < sides
    assert min(map(min, sides)) == 200 and max(map(max, sides)) == 640


def test_the_cutout_is_somebody_without_a_background():
    """Laid on the white it was cut from, it is the image again; on blue, the image on blue."""
    with Image.open(FOLDER / "smith/cutout.png") as image:
        alpha = np.asarray(image.getchannel("A")) / 255
        color = np.asarray(image.convert("RGB")).astype(float)
    shot = DRAWN["smith/cutout.png"]
    assert np.count_nonzero(alpha == 0) > 20_000 and np.count_nonzero(alpha == 1) > 40_000
    for background, name in (((255, 255, 255), "white"), ((150, 204, 246), "blue"), ((255, 190, 208), "pink")):
        scene = dataclasses.replace(drawn.scene_for(shot), place="", style="flat", background=name)
        laid = color * alpha[..., None] + np.array(background) * (1 - alpha[..., None])
        assert np.abs(laid - colors(render_scene(scene, shot.width, shot.height))).max() <= 2


def test_the_near_duplicate_is_near():
    with Image.open(FOLDER / "smith/beach.jpg") as one, Image.open(FOLDER / "smith/beach-again.jpg") as other:
        small, again = (np.asarray(image.convert("L").resize((32, 32))).astype(float) for image in (one, other))
    assert 0 < np.abs(small - again).mean() < 12
