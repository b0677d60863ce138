"""prep crop: every image cropped or accounted for."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import PrepError
from pipeline.imaging import image_file
from pipeline.imaging.window import Region, fit_window
from pipeline.manifest import write_manifest
from pipeline.record import Record
from pipeline.workspace import Workspace
from stages.crop import Crop
from tests import make
from tests.photographs import encoded, paths, photograph


def records(workspace, files):
    """What a scan would make of these files, by name."""
    made = []
    for name, data in files.items():
        (workspace.root / "raw").mkdir(exist_ok=True)
        (workspace.root / "raw" / name).write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        made.append(Record(sha256[:16], f"raw/{name}", sha256, "smith", "man", "train"))
    return sorted(made, key=lambda record: record.id)


def crop(tmp_path, files, **options):
    workspace = Workspace(tmp_path)
    return Crop(**options).start(workspace)(records(workspace, files))


# Geometry


sides = st.integers(1, 20_000)
windows = st.tuples(st.integers(1, 40), st.integers(1, 40)).map(lambda size: (size[0] * 64, size[1] * 64))


@given(sides, sides, windows, st.data())
def test_windows_lie_inside_the_scaled_image_and_the_region(width, height, window, draws):
    left, top = draws.draw(st.floats(0, width - 1)), draws.draw(st.floats(0, height - 1))
    region = Region(left, top, draws.draw(st.floats(left + 1, width)), draws.draw(st.floats(top + 1, height)))
    corner = draws.draw(st.tuples(st.floats(0, 1), st.floats(0, 1)))
    fit = fit_window((width, height), region, window)
    made = fit.crop_box(corner, "#ffffff", "center")
    assert (made.width, made.height) == window
    assert made.left >= 0
    assert made.top >= 0
    assert made.left + made.width <= made.scaled_width
    assert made.top + made.height <= made.scaled_height
    assert 0 <= made.cropped_fraction < 1
    assert made.upscale >= 1
    scale = max(window[0] / region.width, window[1] / region.height)
    slack = 1.51 / scale + 1e-6  # whole pixels of the scaled image, seen in the source
    assert made.box[0] >= region.left - slack
    assert made.box[1] >= region.top - slack
    assert made.box[2] <= region.right + slack
    assert made.box[3] <= region.bottom + slack
    assert made.box[0] >= 0
    assert made.box[2] <= width + 1e-6
    assert abs(made.scaled_width - width * scale) <= max(0.5, made.width - width * scale) + 1e-6


def test_geometry_of_one_image_by_hand(tmp_path):
    (made,) = crop(tmp_path, {"a.jpg": encoded(photograph("china.jpg", (1200, 800)), "JPEG")}, focus="center")
    c = made.crop
    assert (c.source_width, c.source_height, c.scaled_width, c.scaled_height) == (1200, 800, 640, 427)
    assert (c.left, c.top, c.width, c.height) == (0, round(43 / 2), 640, 384)
    assert c.cropped_fraction == pytest.approx(1 - 384 / 427, abs=1e-6)
    assert c.upscale == 1.0
    assert (made.image.width, made.image.height) == (640, 384)
    exact = photograph("china.jpg", (1200, 800)).resize((640, 384), Image.Resampling.LANCZOS, c.box)
    seen = image_file.load_rgb(tmp_path / made.image.path).astype(float)
    assert 10 * math.log10(255**2 / ((seen - np.asarray(exact)) ** 2).mean()) > 33  # JPEG's own loss, no shift


def test_nothing_is_squashed(tmp_path):
    """Circles stay circles, whichever way the image lies: kohya's tool made ellipses of them."""
    y, x = np.mgrid[0:900, 0:1500]
    disc = np.where((x - 750) ** 2 + (y - 450) ** 2 < 300**2, 0, 255).astype(np.uint8)
    for name, image in (("wide", disc), ("tall", disc.T)):
        (made,) = crop(tmp_path, {f"{name}.png": encoded(Image.fromarray(image), "PNG")})
        dark = image_file.load_rgb(tmp_path / made.image.path)[:, :, 0] < 128
        across, down = dark.any(axis=0).sum(), dark.any(axis=1).sum()
        assert abs(int(across) - int(down)) <= 1


# The stage


@pytest.mark.parametrize("focus", ["center", "saliency", "face"])
def test_a_crop_is_what_render_makes_of_its_record(tmp_path, focus):
    files = {path.name: path.read_bytes() for path in paths()}
    files["large.jpg"] = encoded(photograph("china.jpg", (2001, 1333)), "JPEG")
    files["long.jpg"] = encoded(photograph("coffee.png", (3000, 700)), "JPEG")
    out = crop(tmp_path, files, focus=focus, max_upscale=2.0)
    assert [record.id for record in out] == sorted(record.id for record in out)
    assert len(out) == len(files)
    for record in out:
        assert record.kept, record
        again = image_file.render(files[record.source.removeprefix("raw/")], record.crop)
        assert image_file.pixel_hash(again) == record.image.pixel_sha256
        assert np.array_equal(image_file.load_rgb(tmp_path / record.image.path), again)
        assert record.image.width * record.image.height <= 512 * 512
    used = {record.crop.focus for record in out}
    assert (
        used
        == {"center": {"center"}, "saliency": {"center", "saliency"}, "face": {"center", "saliency", "face"}}[focus]
    )


@pytest.mark.parametrize("enlarged", [1, 4])
def test_the_odd_thing_stays_in_the_crop(tmp_path, enlarged):
    y, x = np.mgrid[0:400, 0:1200]
    thing = (x - 1100) ** 2 + (y - 200) ** 2 < 60**2
    scene = np.where(thing, np.where((x // 9 + y // 9) % 2, 255, 0), 120).astype(np.uint8)
    for name, pixels, side in (("wide", scene, "left"), ("tall", scene.T, "top")):
        image = Image.fromarray(pixels).resize((pixels.shape[1] * enlarged, pixels.shape[0] * enlarged))
        (made,) = crop(tmp_path, {f"{name}.png": encoded(image, "PNG")}, size="384x384")
        assert made.crop.focus == "saliency"
        low = made.crop.box[0 if side == "left" else 1] / enlarged
        assert low <= 1040
        assert low + 400 >= 1160
        long = {"left": "768x384", "top": "384x768"}[side]  # little to cut: looked at and cut in one decode
        (made,) = crop(tmp_path, {f"{name}.png": encoded(image, "PNG")}, size=long)
        assert made.crop.box[0 if side == "left" else 1] / enlarged + 800 >= 1160


def test_bad_images_are_dropped_and_stop_nothing(tmp_path):
    good = encoded(photograph("astronaut.png"), "PNG")
    files = {
        "good.png": good,
        "empty.jpg": b"",
        "cut.png": good[: len(good) // 2],
        "text.jpg": b"not an image at all",
        "dot.png": encoded(Image.new("RGB", (1, 1)), "PNG"),
        "thin.png": encoded(Image.new("RGB", (60, 4000)), "PNG"),
        "moves.gif": encoded(
            photograph("coffee.png", (600, 400)), "GIF", save_all=True, append_images=[Image.new("RGB", (600, 400))]
        ),
        "wrong name.txt": encoded(photograph("flower.jpg"), "JPEG"),
    }
    out = {record.source.removeprefix("raw/"): record for record in crop(tmp_path, files)}
    reasons = {name: record.drop.reason if record.drop else "" for name, record in out.items()}
    assert reasons == {
        "good.png": "",
        "empty.jpg": "empty file",
        "cut.png": "truncated",
        "text.jpg": "not an image",
        "dot.png": "too small",
        "thin.png": "too small",
        "moves.gif": "",
        "wrong name.txt": "",
    }
    assert all(record.drop.stage == "crop" and record.image is None for record in out.values() if record.drop)


@pytest.mark.parametrize("place", ["resample", "to_srgb"])
def test_one_file_on_which_a_library_fails_does_not_stop_the_others(tmp_path, monkeypatch, place):
    whole = getattr(image_file, place)

    def failing(*parts, **options):
        pixels = parts[0].data if place == "resample" else parts[0]
        if (pixels == bad) if place == "resample" else pixels.shape[2] == 1:
            raise cv2.error("an assertion of a library")
        return whole(*parts, **options)

    bad = encoded(Image.new("L", (512, 512), 80), "PNG")
    monkeypatch.setattr(image_file, place, failing)
    good = encoded(photograph("astronaut.png"), "PNG")
    out = {record.source: record.drop for record in crop(tmp_path, {"bad.png": bad, "good.png": good})}
    assert out["raw/good.png"] is None
    assert out["raw/bad.png"].reason == "damaged"
    assert "an assertion of a library" in out["raw/bad.png"].detail


def test_a_strip_of_many_pixels_is_cropped(tmp_path):
    """Its preview is reduced by more than libvips' kernels are made for."""
    strip = encoded(Image.new("1", (180_000, 180), 1), "PNG")
    (made,) = crop(tmp_path, {"strip.png": strip})
    assert (made.image.width, made.image.height) == (1024, 256)


def test_a_file_that_went_away_is_dropped(tmp_path):
    workspace = Workspace(tmp_path)
    (record,) = records(workspace, {"a.png": encoded(photograph("astronaut.png"), "PNG")})
    (tmp_path / record.source).unlink()
    (out,) = Crop().start(workspace)([record])
    assert out.drop.reason == "cannot be opened"


def test_a_file_that_changed_since_it_was_found_is_dropped(tmp_path):
    """Its pixels must not be stored under the hash of the former ones."""
    workspace = Workspace(tmp_path)
    (record,) = records(workspace, {"a.png": encoded(photograph("astronaut.png"), "PNG")})
    (tmp_path / record.source).write_bytes(encoded(photograph("coffee.png"), "PNG"))
    (out,) = Crop().start(workspace)([record])
    assert (out.drop.reason, out.image) == ("changed", None)


def test_an_image_without_an_end_marker_is_kept_with_a_note(tmp_path, caplog):
    whole = encoded(photograph("china.jpg", (1200, 800)), "JPEG")
    out = {r.source: r for r in crop(tmp_path, {"whole.jpg": whole, "cut.jpg": whole[:-2]})}
    assert out["raw/cut.jpg"].image == out["raw/whole.jpg"].image
    (note,) = caplog.messages
    assert "raw/cut.jpg" in note


def test_a_full_disk_is_no_fault_of_the_image(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_file, "write_atomic", full)
    with pytest.raises(OSError, match="No space"):
        crop(tmp_path, {"a.png": encoded(photograph("astronaut.png"), "PNG")})


def test_small_images_are_dropped_unless_allowed(tmp_path):
    files = {"a.png": encoded(photograph("astronaut.png", (300, 300)), "PNG")}
    assert crop(tmp_path, files)[0].drop.reason == "too small"
    (made,) = crop(tmp_path, files, allow_upscale=True)
    assert made.crop.upscale == pytest.approx(512 / 300, abs=1e-5)
    assert crop(tmp_path, files, max_upscale=1.8)[0].kept


def test_too_much_lost(tmp_path):
    files = {"a.png": encoded(photograph("coffee.png", (3000, 500)), "PNG")}
    assert crop(tmp_path, files)[0].crop.cropped_fraction == pytest.approx(1 / 3, abs=0.01)
    assert crop(tmp_path, files, max_cropped=0.3)[0].drop.reason == "too much cropped"


def test_one_fixed_size(tmp_path):
    out = crop(tmp_path, {p.name: p.read_bytes() for p in paths()[:4]}, size="448x640", allow_upscale=True)
    assert {(r.image.width, r.image.height) for r in out} == {(448, 640)}


def test_a_box_from_the_recipe(tmp_path):
    files = {
        "a=b, c.png": encoded(photograph("astronaut.png"), "PNG"),
        "other.png": encoded(photograph("coffee.png"), "PNG"),
    }
    out = crop(tmp_path, files, boxes=("a=b, c.png=100,20,360,360",), size="256x256")
    boxed = next(record for record in out if "a=b" in record.source)
    assert boxed.crop.focus == "box"
    assert boxed.crop.box == pytest.approx((100, 20, 460, 380), abs=1)
    other = next(record for record in out if "other" in record.source)
    assert other.crop.focus == "saliency"
    by_id = crop(tmp_path, files, boxes=(f"{boxed.id}=100,20,360,360",), size="256x256")
    assert next(record for record in by_id if record.id == boxed.id) == boxed


def test_two_boxes_make_two_records(tmp_path):
    files = {"a.png": encoded(photograph("astronaut.png"), "PNG")}
    out = crop(tmp_path, files, boxes=("a.png=0,0,300,300", "a.png=200,200,300,300"), size="256x256")
    (source,) = {record.origin for record in out}
    assert [record.id for record in out] == [f"{source}-1", f"{source}-2"]
    assert [record.crop.box for record in out] == [
        pytest.approx((0, 0, 300, 300), abs=1),
        pytest.approx((200, 200, 500, 500), abs=1),
    ]


def test_a_box_outside_the_image(tmp_path):
    files = {"a.png": encoded(photograph("astronaut.png"), "PNG")}
    assert crop(tmp_path, files, boxes=("a.png=400,0,200,200",))[0].drop.reason == "box outside the image"


def test_split_covers_a_long_image(tmp_path):
    files = {"a.png": encoded(photograph("coffee.png", (4000, 1000)), "PNG")}
    out = crop(tmp_path, files, split=True, focus="center")
    assert len(out) > 1
    assert [record.id for record in out] == [f"{out[0].origin}-{k}" for k in range(1, len(out) + 1)]
    edges = [record.crop.box for record in out]
    assert edges[0][0] <= 4000 / len(out) * 0.2
    assert all(a[2] <= b[0] + 4 for a, b in itertools.pairwise(edges))  # side by side
    single = crop(tmp_path, {"b.png": encoded(photograph("coffee.png", (600, 500)), "PNG")}, split=True)
    assert single[0].origin == ""


def test_background_shows_through(tmp_path):
    clear = Image.new("RGBA", (512, 512), (0, 0, 0, 0))
    (made,) = crop(tmp_path, {"a.png": encoded(clear, "PNG")}, background="#336699")
    assert np.unique(image_file.load_rgb(tmp_path / made.image.path).reshape(-1, 3), axis=0).tolist() == [
        [0x33, 0x66, 0x99]
    ]


def test_the_users_files_stay_as_they_are(tmp_path):
    files = {path.name: path.read_bytes() for path in paths()[:3]}
    crop(tmp_path, files)
    assert {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()} == files


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": "512x"}, "WIDTHxHEIGHT"),
        ({"size": "500x512"}, "multiples of 8"),
        ({"size": "512x512", "min_side": 256}, "excludes min-side"),
        ({"background": "white"}, "#ffffff"),
        ({"bucket_step": 12}, "multiple of 8"),
        ({"min_side": 300}, "--min-side 256 or --min-side 320"),
        ({"min_side": 1024, "max_side": 512}, "Lower --min-side"),
        ({"max_side": 256}, "max-side is 256, less than"),
        ({"min_side": 640}, "Lower --min-side"),
        ({"boxes": ("a.png",)}, "NAME=left,top,width,height"),
        ({"boxes": ("a.png=1,2,3",)}, "NAME=left,top,width,height"),
        ({"boxes": ("a.png=1,2,0,5",)}, "at least 1 pixel"),
        ({"max_upscale": 0.5}, "from 1"),
    ],
)
def test_contradictions_are_refused(options, said):
    with pytest.raises(PrepError, match=said.replace("(", r"\(")):
        Crop(**options)


def test_a_size_of_one_number_is_a_square():
    assert Crop(size="512").sizes() == Crop(size="512x512").sizes() == ((512, 512),)
    assert Crop(size="512X768").sizes() == ((512, 768),)


def test_limits_follow_the_resolution():
    assert Crop().focus == "saliency"  # what benchmarks/crop.py measures
    assert Crop().sides() == (256, 1024)
    assert Crop(resolution=1024).sides() == (512, 2048)
    assert Crop(resolution=600).sides() == (256, 1216)
    assert replace(Crop(), min_side=384).sides() == (384, 1024)


def test_a_box_for_no_image_is_refused(tmp_path):
    one = make.record(1, crop=None, image=None, source="raw/a.png")
    source = write_manifest(tmp_path / "sources.parquet", [[one]], ())
    for name in ("a.png", "raw/a.png", one.id):
        Crop(boxes=(f"{name}=1,2,30,40",)).check_input(source)
    with pytest.raises(PrepError, match=r"'b\.png', which is no image"):
        Crop(boxes=("b.png=1,2,30,40",)).check_input(source)
