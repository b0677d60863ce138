"""Reading, rendering, hashing and writing images."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from pipeline.imaging import decode, image_file, resample
from pipeline.imaging.resample import padding_columns
from pipeline.record import CropBox, Transform
from pipeline.workspace import Workspace
from tests.photographs import encoded, path, paths, photograph

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")  # as outside pytest, which resets the filters


def crop_of(source, scaled, window=None, background="#ffffff"):
    left, top, width, height = window or (0, 0, *scaled)
    return CropBox(*source, *scaled, left, top, width, height, background, "center", 1.0, 0.0)


def render_whole(data, background="#ffffff"):
    size = image_file.upright_size(data)
    return image_file.render(data, crop_of(size, size, background=background))


def render_whole_at(data, scaled):
    return image_file.render(data, crop_of(image_file.upright_size(data), scaled))


def psnr(a, b):
    return 10 * math.log10(255**2 / max(1e-9, float(((a.astype(float) - b.astype(float)) ** 2).mean())))


# What the pixels are


@pytest.mark.parametrize("file", paths(), ids=lambda file: file.name)
@pytest.mark.parametrize("enlarged", [1, 7.3])
def test_reduction_is_as_good_as_a_full_decode(file, enlarged):
    image = Image.open(file).convert("RGB")
    image = image.resize((round(image.width * enlarged), round(image.height * enlarged)), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 4, (image.height, image.width, 1))
    image = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    data = encoded(image, "JPEG", quality=90)
    for side in (128, 200):
        scale = side / min(image.size)
        scaled = max(side, round(image.width * scale)), max(side, round(image.height * scale))
        crop = crop_of(image.size, scaled, ((scaled[0] - side) // 2, (scaled[1] - side) // 3, side, side))
        exact = Image.open(io.BytesIO(data)).resize((side, side), Image.Resampling.LANCZOS, crop.box)
        assert psnr(image_file.render(data, crop), np.asarray(exact)) >= 45


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_a_crop_is_a_cut_out_of_the_whole(format):
    image = photograph("china.jpg", (1283, 857))
    data = encoded(image, format)
    whole = image_file.render(data, crop_of(image.size, (300, 200)))
    part = image_file.render(data, crop_of(image.size, (300, 200), (41, 17, 128, 96)))
    assert np.array_equal(part, whole[17:113, 41:169])


def test_enlargement_is_pillows_lanczos_in_the_exact_box():
    image = photograph("flower.jpg", (100, 80))
    crop = crop_of((100, 80), (150, 121), (11, 7, 128, 64))
    exact = image.resize((128, 64), Image.Resampling.LANCZOS, crop.box)
    assert np.array_equal(image_file.render(encoded(image, "PNG"), crop), np.asarray(exact))


def upright(stored, orientation):
    """The EXIF orientations by their definition: where row 0 and column 0 of the stored image are seen."""
    first_row, first_column = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    rows, columns = stored.shape[:2]
    seen = np.zeros((rows, columns, 3) if first_row in ("top", "bottom") else (columns, rows, 3), np.uint8)
    for row in range(rows):
        for column in range(columns):
            place = {first_row: row, first_column: column}
            y = place["top"] if "top" in place else seen.shape[0] - 1 - place["bottom"]
            x = place["left"] if "left" in place else seen.shape[1] - 1 - place["right"]
            seen[y, x] = stored[row, column]
    return seen


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(orientation, format):
    image = photograph("astronaut.png", (37, 23))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {"quality": 95} if format == "JPEG" else {}
    data = encoded(image, format, exif=exif, **options)
    stored = np.asarray(image if format != "JPEG" else Image.open(io.BytesIO(data)).convert("RGB"))
    seen = upright(stored, orientation)
    size = seen.shape[1], seen.shape[0]
    assert image_file.upright_size(data) == size
    assert np.array_equal(render_whole(data), seen)
    part = image_file.render(data, crop_of(size, size, (3, 5, 16, 11)))
    assert np.array_equal(part, seen[5:16, 3:19])
    assert image_file.thumbnail(data, 16).shape[:2] == ((16, 10) if size[1] > size[0] else (10, 16))


def test_exif_behind_the_pixels_of_a_png_counts():
    image = photograph("coffee.png", (20, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(image, "PNG")
    body = exif.tobytes().removeprefix(b"Exif\x00\x00")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    data = data[:-12] + chunk + data[-12:]
    assert image_file.upright_size(data) == (10, 20)
    assert np.array_equal(render_whole(data), np.rot90(np.asarray(image), -1))


# Color


def test_transparent_pixels_take_the_background():
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[:, 0] = (200, 100, 50, 255)
    rgba[:, 1] = (200, 100, 50, 128)
    rgba[:, 2] = (255, 0, 0, 0)
    seen = render_whole(encoded(Image.fromarray(rgba), "PNG"), "#0a141e")
    share = 128 / 255
    mixed = [round(a * share + b * (1 - share)) for a, b in zip((200, 100, 50), (10, 20, 30), strict=True)]
    assert seen[0].tolist() == [[200, 100, 50], mixed, [10, 20, 30]]


@pytest.mark.parametrize("mode", ["LA", "P", "L", "RGB"])
def test_every_way_to_be_transparent(mode):
    grey = np.array([[0, 100, 200]], np.uint8)
    image = Image.fromarray(grey)
    if mode == "LA":
        image = Image.merge("LA", (image, Image.fromarray(np.array([[0, 255, 255]], np.uint8))))
        data = encoded(image, "PNG")
    else:
        image = image.convert(mode)
        data = encoded(image, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert render_whole(data, "#ff0000")[0].tolist() == [[255, 0, 0], [100, 100, 100], [200, 200, 200]]


def test_sixteen_bits_keep_their_high_ones():
    deep = np.array([[0, 257 * 7, 257 * 200, 65535]], np.uint16)
    assert render_whole(encoded(Image.fromarray(deep), "PNG"))[0, :, 0].tolist() == [0, 7, 200, 255]
    assert render_whole(encoded(Image.fromarray(deep), "TIFF"))[0, :, 1].tolist() == [0, 7, 200, 255]
    colors = np.zeros((1, 2, 3), np.uint16)
    colors[0, 1] = 257 * 30, 257 * 20, 257 * 10  # OpenCV writes blue first
    ok, file = cv2.imencode(".png", colors)
    assert ok
    assert render_whole(file.tobytes())[0].tolist() == [[0, 0, 0], [10, 20, 30]]


def test_float_shares_become_steps():
    shares = np.array([[0.0, 0.5, 1.0, np.nan]], np.float32)
    assert render_whole(encoded(Image.fromarray(shares), "TIFF"))[0, :, 0].tolist() == [0, 128, 255, 0]


@pytest.mark.parametrize(("mode", "levels"), [("1", [0, 255]), ("L", [0, 77])])
def test_grey(mode, levels):
    image = (
        Image.fromarray(np.array([[0, 77]], np.uint8)).point(lambda v: 255 if v and mode == "1" else v).convert(mode)
    )
    assert render_whole(encoded(image, "PNG"))[0].tolist() == [[level] * 3 for level in levels]


def test_cmyk_without_a_profile():
    ink = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    for format in ("JPEG", "TIFF"):
        seen = render_whole(encoded(ink, format))
        assert np.abs(seen.astype(int) - (0, 255, 255)).max() <= 2


def profile(red, green, blue, gamma):
    """A minimal ICC v2 display profile: colorants as XYZ under D50, one power curve."""

    def numbers(kind, *values):
        return kind + bytes(4) + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = [
        (b"desc", b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78) + bytes(1)),
        (b"cprt", b"text" + bytes(4) + b"none\0" + bytes(3)),
        (b"wtpt", numbers(b"XYZ ", 0.9642, 1.0, 0.8249)),
        *((name, numbers(b"XYZ ", *xyz)) for name, xyz in ((b"rXYZ", red), (b"gXYZ", green), (b"bXYZ", blue))),
        *((name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")),
    ]
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags:
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(body), bytes(4), 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", round(0.9642 * 65536), 65536, round(0.8249 * 65536))
    return head.ljust(128, b"\0") + table + body


# Colorants of sRGB and of Display P3 under D50 (Bradford), as in their public definitions.
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))


def srgb_step(light):
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(("colorants", "gamma"), [(SRGB, 1.0), (P3, 2.2)])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_embedded_profiles_become_srgb(colorants, gamma, format):
    colors = np.array([(128, 128, 128), (40, 60, 50), (200, 150, 120), (90, 120, 180), (255, 255, 255)])
    to_xyz, from_xyz = np.array(colorants).T, np.linalg.inv(np.array(SRGB).T)
    options = {"PNG": {}, "JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}[format]
    for color in colors:
        image = Image.new("RGB", (16, 16), tuple(int(v) for v in color))
        data = encoded(image, format, icc_profile=profile(*colorants, gamma), **options)
        expected = srgb_step(from_xyz @ to_xyz @ (color / 255) ** gamma)
        assert np.abs(render_whole(data)[8, 8] - expected).max() <= 2.5


def test_a_profile_under_transparency_leaves_the_background_alone():
    rgba = Image.new("RGBA", (2, 1), (55, 55, 55, 255))
    rgba.putpixel((1, 0), (0, 0, 0, 0))
    seen = render_whole(encoded(rgba, "PNG", icc_profile=profile(*SRGB, 1.0)), "#404040")
    assert seen[0, 1].tolist() == [64, 64, 64]
    assert abs(int(seen[0, 0, 0]) - float(srgb_step(55 / 255))) <= 1.5


@pytest.mark.parametrize("broken", [b"nonsense", profile(*SRGB, 1.0)[:150], b"\0" * 200])
def test_a_broken_profile_counts_as_none(broken):
    image = photograph("coffee.png", (16, 16))
    assert np.array_equal(render_whole(encoded(image, "PNG", icc_profile=broken)), np.asarray(image))


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (12, 9), color) for color in ("#ff0000", "#00ff00", "#0000ff")]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        assert np.abs(render_whole(data)[4, 4].astype(int) - (255, 0, 0)).max() <= 3


# What cannot be read


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"a caption, not an image", "not an image"),
        (b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00", "damaged"),
        (b"\xff\xd8\xff\xe0", "damaged"),
        (b"BM a car, dented", "not an image"),
    ],
)
def test_what_is_no_image(data, reason):
    with pytest.raises(image_file.UnreadableImage) as fault:
        image_file.upright_size(data)
    assert fault.value.reason == reason


def test_a_decompression_bomb_is_refused_by_its_header():
    header = struct.pack(">II", 40_000, 40_000) + b"\x08\x02\x00\x00\x00"
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    body = zlib.compress(b"\0" * 1000)
    pixels = struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
    for act in (image_file.upright_size, lambda data: image_file.thumbnail(data, 64)):
        with pytest.raises(image_file.UnreadableImage) as fault:
            act(b"\x89PNG\r\n\x1a\n" + chunk + pixels)
        assert fault.value.reason == "decompression bomb"


def test_a_decompression_bomb_is_refused_while_it_is_decoded():
    """An ICNS file of 85 bytes whose icon is a PNG of 16,384 x 32,768 pixels in its own header only."""
    size = struct.pack(">II", 16_384, 65_536) + b"\x08\x02\x00\x00\x00"
    icon = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + size
    icon += struct.pack(">I", zlib.crc32(b"IHDR" + size)) + struct.pack(">I", 0) + b"IDAT" + bytes(4)
    entry = b"ic07" + struct.pack(">I", len(icon) + 8) + icon
    data = b"icns" + struct.pack(">I", len(entry) + 8) + entry
    with pytest.raises(image_file.UnreadableImage) as fault:
        image_file.thumbnail(data, 64)
    assert fault.value.reason == "decompression bomb"


def test_whatever_a_library_raises_is_a_reason_with_its_text():
    class StrangeError(Exception):
        pass

    with pytest.raises(image_file.UnreadableImage) as fault, image_file.decoding():
        raise StrangeError("reduce factor\ntoo large")
    assert (fault.value.reason, fault.value.detail) == ("damaged", "StrangeError: reduce factor too large")


@pytest.mark.parametrize("size", [(9000, 2), (4001, 3), (3, 4001)])
def test_a_reduction_wider_than_the_kernel_keeps_the_colors_in_place(size):
    ramp = np.linspace(0, 255, max(size)).astype(np.uint8)
    rows = np.tile(ramp, (min(size), 1)) if size[0] > size[1] else np.tile(ramp[:, None], (1, min(size)))
    seen = render_whole_at(encoded(Image.fromarray(rows), "PNG"), tuple(10 if side > 10 else 1 for side in size))
    exact = (np.arange(10) + 0.5) * 25.5
    assert np.abs(seen[..., 0].ravel() - exact).max() <= 2.5


SMALL = photograph("astronaut.png", (48, 40))
WHOLE_FILES = {
    "JPEG": encoded(SMALL, "JPEG"),
    "progressive": encoded(SMALL, "JPEG", progressive=True),
    "PNG": encoded(SMALL, "PNG"),
    "RGBA": encoded(SMALL.convert("RGBA"), "PNG"),
    "WEBP": encoded(SMALL, "WEBP"),
    "GIF": encoded(SMALL, "GIF"),
    "BMP": encoded(SMALL, "BMP"),
    "TIFF": encoded(SMALL, "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("kind", WHOLE_FILES)
@pytest.mark.parametrize("scaled", [(48, 40), (24, 20), (60, 50)])
def test_every_prefix_renders_fully_or_is_unreadable(kind, scaled):
    data, crop = WHOLE_FILES[kind], crop_of((48, 40), scaled)
    full = image_file.render(data, crop)
    for end in range(0, len(data), max(1, len(data) // 150)):
        try:
            rendered = image_file.render(data[:end], crop)
        except image_file.UnreadableImage as fault:
            assert fault.reason
        else:
            assert np.array_equal(rendered, full), f"half an image from {end} of {len(data)} bytes"


@given(st.data())
def test_damaged_files_never_crash(draws):
    data = bytearray(WHOLE_FILES[draws.draw(st.sampled_from(sorted(WHOLE_FILES)))])
    for _ in range(draws.draw(st.integers(1, 8))):
        data[draws.draw(st.integers(0, len(data) - 1))] = draws.draw(st.integers(0, 255))
    try:
        size = image_file.upright_size(bytes(data))
        if size[0] * size[1] < 1e6:
            assert render_whole(bytes(data)).shape == (size[1], size[0], 3)
    except image_file.UnreadableImage as fault:
        assert fault.reason


def test_a_jpeg_with_ruined_pixels_is_damaged_and_one_with_oddities_is_not():
    data = path("china.jpg").read_bytes()
    ruined = bytearray(data)
    ruined[50_000:50_200] = b"\xff\xd9" * 100
    with pytest.raises(image_file.UnreadableImage) as fault:
        render_whole(bytes(ruined))
    assert fault.value.reason == "damaged"
    end = data.rindex(b"\xff\xd9")
    odd = data[:end] + b"\x01\x02\x03" + data[end:] + b"trailing"
    assert np.array_equal(render_whole(odd), render_whole(data))


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_a_jpeg_that_lacks_only_its_end_marker_is_whole(options):
    data = encoded(photograph("china.jpg", (320, 208)), "JPEG", **options)
    for end in (len(data) - 2, len(data) - 1):
        assert decode.lacks_end_marker(data[:end])
        for scaled in ((320, 208), (40, 26)):
            assert np.array_equal(render_whole_at(data[:end], scaled), render_whole_at(data, scaled))
    for missing in (3, 4, 5, 10, 40, 200, 2000, len(data) // 2):
        with pytest.raises(image_file.UnreadableImage):
            render_whole(data[:-missing])


def test_what_is_said_of_a_file_does_not_hang_on_other_threads():
    """libvips' messages lie in one place for all threads, and one that reads another fault may snatch them."""
    cut, other = path("china.jpg").read_bytes()[:20_000], encoded(SMALL, "PNG")

    def reported(number):
        with pytest.raises(image_file.UnreadableImage) as fault:
            resample._jpeg(decode.open_image(other if number % 3 else cut), 1, resample._pixels)
        return None if number % 3 else (fault.value.reason, fault.value.detail)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(reported, range(900))) == {None, ("truncated", "premature end of JPEG image")}


def test_broken_exif_is_no_fault():
    plain = encoded(SMALL, "JPEG")
    for exif in (b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0" * 40):
        data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
        assert image_file.upright_size(data) == (48, 40)
        assert np.array_equal(render_whole(data), render_whole(plain))


def test_another_size_than_the_crop_was_made_for():
    with pytest.raises(image_file.UnreadableImage, match="changed"):
        image_file.render(WHOLE_FILES["PNG"], crop_of((48, 41), (24, 20)))


@pytest.mark.parametrize("window", [(-1, 0, 8, 8), (17, 0, 8, 8), (0, 13, 8, 8), (0, 0, 0, 8), (0, 0, 8, -8)])
def test_a_window_that_cannot_be(window):
    for scaled in ((24, 20), (24_000_000, 20_000_000)):
        wide = window if scaled[0] == 24 else (0, 0, *scaled)
        with pytest.raises(image_file.UnreadableImage, match="impossible crop"):
            image_file.render(WHOLE_FILES["PNG"], crop_of((48, 40), scaled, wide))


def test_thumbnails_show_the_image():
    image = photograph("china.jpg", (2003, 1335))
    for format in ("JPEG", "PNG"):
        seen = image_file.thumbnail(encoded(image, format), 160)
        assert seen.shape == (107, 160, 3)
        assert psnr(seen, np.asarray(image.resize((160, 107), Image.Resampling.LANCZOS))) > 30
    assert image_file.thumbnail(encoded(image.resize((20, 10)), "PNG"), 160).shape == (10, 20, 3)


@pytest.mark.parametrize("size", [(1, 1), (60, 4000), (4000, 1)])
def test_odd_shapes(size):
    data = encoded(Image.new("RGB", size, "#123456"), "JPEG", quality=100, subsampling=0)
    small = crop_of(size, tuple(max(1, side // 5) for side in size))
    assert np.abs(image_file.render(data, small).astype(int) - (0x12, 0x34, 0x56)).max() <= 2


# Formats of plugins and of high dynamic range


def test_heif_is_read_upright():
    """iPhones store photographs so, turned by a property of the file and by EXIF, which count once."""
    pillow_heif.register_heif_opener()
    image = photograph("astronaut.png", (320, 200))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(image, "HEIF", quality=95, exif=exif.tobytes())
    assert image_file.upright_size(data) == (200, 320)
    assert psnr(render_whole(data), np.rot90(np.asarray(image), -1)) > 30
    with pytest.raises(image_file.UnreadableImage):
        render_whole(data[: len(data) // 2])


def test_heif_with_an_alpha_channel_takes_the_background():
    pillow_heif.register_heif_opener()
    data = encoded(Image.new("RGBA", (64, 64), (255, 0, 0, 0)), "HEIF", quality=95)
    assert np.abs(render_whole(data, "#204060").astype(int) - (0x20, 0x40, 0x60)).max() <= 3


def test_avif_whose_first_brand_is_the_general_one():
    image = photograph("astronaut.png", (64, 48))
    data = encoded(image, "AVIF", quality=95)
    general = data[:8] + b"mif1" + data[12:]
    assert b"avif" in general[16:40]
    assert np.array_equal(render_whole(general), render_whole(data))


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize("format", ["AVIF", "HEIF", "PNG"])
def test_high_dynamic_range_is_refused_by_reason(format, transfer, name):
    pillow_heif.register_heif_opener()
    data = encoded(Image.new("RGB", (64, 48), "#a05030"), format)
    if format == "PNG":
        body = bytes((9, transfer, 0, 1))
        data = (
            data[:33]
            + struct.pack(">I", 4)
            + b"cICP"
            + body
            + struct.pack(">I", zlib.crc32(b"cICP" + body))
            + data[33:]
        )
    else:
        at = data.index(b"nclx") + 4
        data = data[:at] + struct.pack(">HH", 9, transfer) + data[at + 4 :]
    with pytest.raises(image_file.UnreadableImage) as fault:
        image_file.upright_size(data)
    assert (fault.value.reason, name in fault.value.detail) == ("HDR", True)


def test_jpeg_xl_is_read_or_named_with_what_reads_it(monkeypatch):
    data = b"\xff\x0a" + bytes(30)
    monkeypatch.setattr(decode, "_formats", lambda: ("JPEG", "PNG"))
    with pytest.raises(image_file.UnreadableImage) as fault:
        image_file.upright_size(data)
    assert fault.value.reason == "JPEG XL"
    assert "pip install pillow-jxl-plugin" in fault.value.detail
    monkeypatch.undo()
    pytest.importorskip("pillow_jxl")
    image = photograph("astronaut.png", (64, 48))
    assert np.array_equal(render_whole(encoded(image, "JXL", lossless=True)), np.asarray(image))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("scaled", [(1, 1), (64, 64)])
def test_an_image_of_one_pixel(mode, scaled):
    data = encoded(Image.new(mode, (1, 1)), "PNG")
    assert render_whole_at(data, scaled).shape == (*scaled, 3)
    assert image_file.thumbnail(data, 64).shape == (1, 1, 3)


# Names and recognition


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.JPG", True),
        ("b.Jpeg", True),
        ("c.webp", True),
        ("d.txt", False),
        ("e", False),
        ("f.HEIC", True),
        ("x.eps", False),
    ],
)
def test_names(name, expected):
    assert image_file.is_image_name(name) is expected


def test_content_counts_before_names():
    for kind, data in WHOLE_FILES.items():
        assert image_file.looks_like_image(data[:64], "no-extension"), kind
    assert image_file.looks_like_image(b"", "empty.png")
    assert not image_file.looks_like_image(b"BMW on a street", "a.txt")
    assert not image_file.looks_like_image(b"Pfft, a caption", "b.caption")
    assert not image_file.looks_like_image(b"%!PS-Adobe-3.0 EPSF", "c.bin")
    assert not image_file.looks_like_image(b"", "d.txt")


# Hashes and files


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_png_holds_exactly_the_pixels(width, height, seed):
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    data = image_file.encode_png(rgb)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), rgb)
    assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1], rgb)


def test_pixel_hash_is_over_size_and_bytes():
    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    expected = hashlib.sha256((4).to_bytes(8, "big") + (2).to_bytes(8, "big") + bytes(range(24))).hexdigest()
    assert image_file.pixel_hash(rgb) == expected
    assert image_file.pixel_hash(rgb.reshape(4, 2, 3)) != expected
    mirrored = rgb[:, ::-1]
    assert image_file.pixel_hash(mirrored) == image_file.pixel_hash(mirrored.copy())


def test_phash_by_the_definition_of_the_cosine_transform():
    rgb = np.asarray(photograph("china.jpg", (96, 64)))
    grey = rgb @ np.array([0.299, 0.587, 0.114])
    small = grey.reshape(32, 2, 32, 3).mean(axis=(1, 3))
    k, n = np.arange(8)[:, None], np.arange(32)[None]
    basis = np.cos(np.pi * k * (2 * n + 1) / 64)
    low = (basis @ small @ basis.T) * np.where(k == 0, 0.5**0.5, 1) * np.where(k.T == 0, 0.5**0.5, 1)
    bits = "".join("1" if value > np.median(low) else "0" for value in low.ravel())
    assert bin(int(image_file.phash(rgb), 16) ^ int(bits, 2)).count("1") <= 2  # rounding of grey to whole steps


@pytest.mark.parametrize("color", [(255, 255, 255), (0, 0, 255), (250, 10, 10), (0, 0, 0)])
def test_phash_of_a_plain_image_is_none(color):
    image = Image.new("RGB", (512, 512), color)
    noise = np.random.default_rng(1).normal(0, 6, (512, 512, 3))
    noisy = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
    assert image_file.phash(np.asarray(image)) == image_file.phash(noisy) == "0" * 16


def test_phash_tells_near_from_far():
    def far(a, b):
        return bin(int(a, 16) ^ int(b, 16)).count("1")

    one = image_file.phash(np.asarray(photograph("china.jpg", (640, 424))))
    again = image_file.phash(np.asarray(photograph("china.jpg", (300, 200)).point(lambda v: v * 0.9)))
    other = image_file.phash(np.asarray(photograph("flower.jpg", (640, 424))))
    assert far(one, again) <= 6
    assert far(one, other) >= 16


def test_save_names_by_pixels_and_heals(tmp_path):
    workspace = Workspace(tmp_path)
    rgb = np.asarray(photograph("coffee.png", (64, 48)))
    saved = image_file.save(workspace, rgb)
    path = tmp_path / saved.path
    assert saved.path == f"images/{saved.pixel_sha256[:2]}/{saved.pixel_sha256}.png"
    assert (saved.width, saved.height, saved.pixel_sha256) == (64, 48, image_file.pixel_hash(rgb))
    assert saved.file_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert np.array_equal(image_file.load_rgb(path), rgb)
    before = path.stat().st_ino
    assert image_file.save(workspace, rgb) == saved
    assert path.stat().st_ino == before  # left alone
    for left in (b"", bytes(path.stat().st_size)):  # as a power cut leaves it
        path.write_bytes(left)
        assert image_file.save(workspace, rgb) == saved
        assert np.array_equal(image_file.load_rgb(path), rgb)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_threads_make_the_same_pixels():
    image = photograph("china.jpg", (1601, 1067))
    files = [encoded(image, "JPEG"), encoded(image, "PNG"), encoded(image, "WEBP", icc_profile=profile(*P3, 2.2))]
    crop = crop_of(image.size, (384, 256), (10, 0, 256, 256))
    alone = [image_file.pixel_hash(image_file.render(data, crop)) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda k: image_file.pixel_hash(image_file.render(files[k % 3], crop)), range(48)))
    assert together == alone * 16


def test_nothing_is_left_open(capfd):
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("no /proc")
    crop = crop_of((48, 40), (24, 20))
    before = None
    for turn in range(40):
        for data in WHOLE_FILES.values():
            image_file.render(data, crop)
            with pytest.raises(image_file.UnreadableImage):
                image_file.render(data[: len(data) // 3], crop)
        if turn == 2:
            before = len(list(handles.iterdir())), threading.active_count()
    assert (len(list(handles.iterdir())), threading.active_count()) == before
    assert capfd.readouterr() == ("", "")  # libraries complain to nobody


# Transforms


def test_mirror_is_exact():
    rgb = np.asarray(photograph("coffee.png", (64, 48)))
    assert np.array_equal(image_file.transform(rgb, Transform("flip", flip=True)), rgb[:, ::-1])


@pytest.mark.parametrize("angle", [5.0, -17.5, 45.0])
def test_rotation_turns_counter_clockwise_about_the_middle(angle):
    y, x = np.mgrid[0:120, 0:160]
    rgb = np.stack([x, y, x + y], axis=-1).astype(np.uint8)  # planes: their values tell where a pixel came from
    made = image_file.transform(rgb, Transform("rotate", angle=angle)).astype(float)
    assert made.shape == rgb.shape
    a = math.radians(angle)
    share = min(
        160 / (160 * abs(math.cos(a)) + 120 * abs(math.sin(a))), 120 / (160 * abs(math.sin(a)) + 120 * abs(math.cos(a)))
    )
    dx, dy = (x + 0.5 - 80) * share, (y + 0.5 - 60) * share
    # An image turned counter-clockwise shows at an offset what lay clockwise of it; y points down.
    from_x, from_y = dx * math.cos(a) - dy * math.sin(a) + 79.5, dx * math.sin(a) + dy * math.cos(a) + 59.5
    inner = np.s_[4:-4, 4:-4]
    assert np.abs(made[..., 0] - from_x)[inner].max() <= 1
    assert np.abs(made[..., 1] - from_y)[inner].max() <= 1
    assert from_x.min() >= -0.5 and from_x.max() <= 159.5 and from_y.min() >= -0.5 and from_y.max() <= 119.5
    assert abs(min(from_y.min() + 0.5, 119.5 - from_y.max(), from_x.min() + 0.5)) <= share  # and touches an edge


@given(
    st.floats(-45, 45), st.integers(30, 90), st.integers(30, 90), st.floats(0.3, 1), st.floats(-1, 1), st.floats(-1, 1)
)
def test_no_empty_corner_shows(angle, width, height, zoom, shift_x, shift_y):
    white = np.full((height, width, 3), 255, np.uint8)
    made = image_file.transform(white, Transform("jitter", False, angle, zoom, shift_x, shift_y))
    assert made.shape == white.shape
    assert made.min() == 255


def test_zoom_and_shift_take_the_window_they_name():
    rgb = np.asarray(photograph("astronaut.png", (200, 100)))
    made = image_file.transform(rgb, Transform("jitter", zoom=0.5, shift_x=1.0, shift_y=-1.0))
    corner = Image.fromarray(rgb).resize((200, 100), Image.Resampling.LANCZOS, (100, 0, 200, 50))
    assert np.array_equal(made, np.asarray(corner))


# The grid of a JPEG shrunk while loading


@given(st.integers(200, 4001), st.sampled_from([2, 4, 8]), st.floats(2.0, 12.0))
@example(201, 2, 2.0)
@example(4001, 2, 2.0)  # a factor of 2.0005: the worst
def test_the_grid_lies_true(full, shrink, factor):
    size, columns = full / shrink, -(-full // shrink)
    scaled = max(1, round(size / factor))
    padded, factor = columns + padding_columns(size, columns, scaled), size / scaled
    outputs = int(padded / factor + 0.5)
    assert padded >= columns
    assert outputs >= scaled
    first = 0.5 * factor - (outputs * factor - padded) / 2  # libvips puts half of what is over before the first
    assert first == pytest.approx(0.5 * factor, abs=0.031)


def test_the_limit_is_pillows_too():
    image_file.upright_size(WHOLE_FILES["PNG"])
    assert Image.MAX_IMAGE_PIXELS * 2 == decode.MAX_PIXELS
