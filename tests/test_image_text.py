"""Image files with their settings: written where readers look, read from where others write."""

from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import PrepError
from training.sampling.image_text import encode_image, read_text

TEXT = "a cat, <lora:tom:0.8>, 猫 🐈\nNegative prompt: blurry\nSteps: 20, Seed: 42, Size: 8x8"
IMAGE = Image.effect_mandelbrot((24, 16), (-2, -1, 1, 1), 20).convert("RGB")


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
@pytest.mark.parametrize("text", [TEXT, "plain", ""])
def test_the_text_comes_back(kind, text, tmp_path):
    (tmp_path / "a").write_bytes(encode_image(IMAGE, text, kind))
    assert read_text(tmp_path / "a") == text
    with Image.open(tmp_path / "a") as image:
        assert image.size == (24, 16) and image.format.lower() == {"jpg": "jpeg"}.get(kind, kind)
        assert kind != "png" or image.convert("RGB").tobytes() == IMAGE.tobytes()


def test_it_is_where_webui_looks():
    with Image.open(io.BytesIO(encode_image(IMAGE, TEXT, "png"))) as image:
        assert image.text["parameters"] == TEXT
    with Image.open(io.BytesIO(encode_image(IMAGE, TEXT, "jpg"))) as image:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment == b"UNICODE\0" + TEXT.encode("utf-16-be")


@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + TEXT.encode("utf-16-le"),
        b"UNICODE\0" + TEXT.encode("utf-16"),
        b"\0" * 8 + TEXT.encode(),
        b"ASCII\0\0\0" + TEXT.encode(),
        TEXT.encode(),
    ],
)
def test_other_programs_encodings(comment, tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    IMAGE.save(tmp_path / "a.jpg", exif=exif.tobytes())
    assert read_text(tmp_path / "a.jpg") == TEXT


def test_the_comment_of_a_gif(tmp_path):
    IMAGE.save(tmp_path / "a.gif", comment=TEXT.encode())
    assert read_text(tmp_path / "a.gif") == TEXT


def test_equal_images_give_equal_bytes():
    for kind in ("png", "jpg", "webp"):
        assert encode_image(IMAGE, TEXT, kind) == encode_image(IMAGE.copy(), TEXT, kind)


def test_a_prompt_too_long_for_jpeg():
    with pytest.raises(PrepError, match="does not fit into a JPEG"):
        encode_image(IMAGE, "x" * 40_000, "jpg")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40), st.integers(0, 400), st.sampled_from(["png", "jpg", "webp"]))
def test_damaged_files_end_in_a_sentence(tmp_path, noise, at, kind):
    data = bytearray(encode_image(IMAGE, TEXT, kind))
    data[at : at + len(noise)] = noise
    (tmp_path / "a").write_bytes(data)
    with contextlib.suppress(PrepError):
        read_text(tmp_path / "a")
