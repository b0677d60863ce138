"""DeepDanbooru: two letterboxes, the network by another hand, the project folder, and what is no such model."""

import hashlib
import json
import logging
import math

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from pipeline.errors import PrepError
from pipeline.models.catalog import catalog_entry
from pipeline.models.store import format_bytes
from pipeline.workspace import Workspace
from taggers.danbooru import deepdanbooru_net
from taggers.danbooru.deepdanbooru import DeepDanbooru, read_weights
from taggers.danbooru.deepdanbooru_prepare import letterbox, letterbox_area
from tests.fake import cropped
from tests.tagger_contracts import deepdanbooru_input, smooth_photo
from tests.tagger_files import (
    DEEPDANBOORU_TAGS,
    REPEATS,
    small_weights,
    tensors,
    write_deepdanbooru,
    write_deepdanbooru_project,
)

SHAPES = [(64, 64), (200, 200), (300, 97), (97, 300), (31, 20), (20, 31), (5, 48), (64, 1), (1, 300), (63, 64)]


@pytest.fixture(autouse=True)
def _models(tmp_path, monkeypatch):
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "models"))


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def run(workspace, folder, images, **options):
    records = [cropped(workspace, f"{n:03}", image) for n, image in enumerate(images)]
    return DeepDanbooru(model=str(folder), device="cpu", **options).start(workspace)(records)


def scores(record):
    return np.array([a.score for a in record.annotations])


# --- the letterboxes -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_the_web_uis_letterbox(shape):
    array = letterbox(smooth_photo(*shape), 64)
    assert array.dtype == np.float32 and array.shape == (64, 64, 3) and array.flags["C_CONTIGUOUS"]
    assert np.abs(array - deepdanbooru_input(smooth_photo(*shape), 64)).max() < 1e-6


def test_an_odd_rest_lies_above_and_margins_overshoot_the_edge():
    white = np.full((3, 8, 3), 255, np.uint8)
    white[0], white[2] = 51, 102
    assert (letterbox(white, 8)[:, 0, 0] * 255).round().tolist() == [26, 26, 26, 51, 255, 102, 83, 83]
    assert letterbox(np.full((9, 700, 3), 200, np.uint8), 64).min() == np.float32(200) / np.float32(255)


@pytest.mark.parametrize("turned", [False, True])
def test_a_margin_is_what_the_web_ui_makes_of_200_and_100(turned):
    lines = np.repeat(np.uint8([200, 100, 100, 200])[:, None, None], 8, axis=1).repeat(3, axis=2)
    array = letterbox(lines.transpose(1, 0, 2) if turned else lines, 8)
    array = array.transpose(1, 0, 2) if turned else array
    assert (array[:, 3, 1] * 255).round().tolist() == [213, 213, 200, 100, 100, 200, 213, 213]


def areas(image, down, across):
    """tf.image.resize with AREA, pixel by pixel: the mean over what each new pixel covers."""
    height, width = image.shape[:2]
    result = np.zeros((down, across, 3))
    for i in range(down):
        top, bottom = i * height / down, (i + 1) * height / down
        for j in range(across):
            left, right = j * width / across, (j + 1) * width / across
            for y in range(int(top), min(math.ceil(bottom - 1e-9), height)):
                for x in range(int(left), min(math.ceil(right - 1e-9), width)):
                    share = (min(bottom, y + 1) - max(top, y)) * (min(right, x + 1) - max(left, x))
                    result[i, j] += share * image[y, x]
    return result * down * across / (height * width)


@pytest.mark.parametrize("shape", [*SHAPES, (100, 67), (40, 33), (10, 7), (5, 11)])
def test_the_projects_letterbox(shape):
    """Area means by loops, then skimage's own warp, as KichangKim's evaluate does."""
    transform = pytest.importorskip("skimage.transform")
    side = 24
    ratio = min(side / shape[0], side / shape[1])
    down, across = (max(1, round(ratio * length)) for length in shape)
    fitted = areas(smooth_photo(*shape).astype(float), down, across)
    centered = transform.AffineTransform(translation=(side / 2 - across / 2, side / 2 - down / 2))
    warped = transform.warp(fitted, centered.inverse, output_shape=(side, side), order=1, mode="edge")
    array = letterbox_area(smooth_photo(*shape), side)
    assert array.dtype == np.float32 and array.shape == (side, side, 3) and array.flags["C_CONTIGUOUS"]
    assert np.abs(array - warped / 255).max() < 1e-3


# --- the network ---------------------------------------------------------------------------------


def by_hand(weights, images):
    """The forward pass of the facts' text, in numpy and float64; N x H x W x 3 to N x tags."""

    def conv(x, k, stride=1, pad=(0, 0)):
        weight = weights[f"n_Conv_{k}.weight"].astype(np.float64)
        x = np.pad(x, ((0, 0), pad, pad, (0, 0)))
        size = weight.shape[2]
        windows = sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
        y = np.einsum("nhwcij,ocij->nhwo", windows, weight, optimize=True)
        return y + weights[f"n_Conv_{k}.bias"] if f"n_Conv_{k}.bias" in weights else y

    def relu(x):
        return np.maximum(x, 0)

    x = relu(conv(images.astype(np.float64), 0, 2, (2, 3)))
    x = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-np.inf)
    x = sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(-1, -2))
    starts = (1, 11, 36, 97, 158, 168)
    for stage, (start, repeats) in enumerate(zip(starts, REPEATS, strict=True)):
        stride = 1 if stage == 0 else 2
        short, one = (start, start + 1) if stage != 3 else (100, 97)
        y = relu(conv(x, one))
        y = relu(conv(y, one + 1, stride, (1, 1) if stride == 1 else (0, 1)))
        x = relu(conv(y, one + 2) + conv(x, short, stride))
        for repeat in range(repeats):
            k = start + 4 + 3 * repeat
            x = relu(conv(relu(conv(relu(conv(x, k)), k + 1, 1, (1, 1))), k + 2) + x)
    return 1 / (1 + np.exp(-conv(x, 178).mean(axis=(1, 2))))


@pytest.mark.parametrize("shape", [(128, 128), (256, 128)])
def test_the_network_is_the_one_described(shape):
    weights = small_weights()
    images = np.random.default_rng(1).random((3, *shape, 3), np.float32)
    network = deepdanbooru_net.build(tensors(weights))
    got = network(torch.from_numpy(images)).numpy()
    wanted = by_hand(weights, images)
    assert np.abs(got - wanted).max() < 1e-5
    assert np.abs(got[0] - got[1]).max() > 1e-3 and 0.02 < wanted.min() < wanted.max() < 0.98  # it tells them apart
    one = torch.cat([network(torch.from_numpy(images[n : n + 1])) for n in range(3)]).numpy()
    assert np.abs(one - got).max() < 1e-5


def test_names_and_size_are_those_of_the_released_file():
    widths = (256, 512, 1024, 1024, 2048, 4096)
    found = {"n_Conv_0.weight": (64,)}
    lasts = [b.last for b in deepdanbooru_net.blocks() if b.shortcut is not None]
    found |= {f"n_Conv_{last}.weight": (width,) for last, width in zip(lasts, widths, strict=True)}
    shapes = deepdanbooru_net.shapes(found, 9176)
    assert {f"n_Conv_{k}.weight" for k in range(179)} | {f"n_Conv_{k}.bias" for k in range(178)} == shapes.keys()
    assert sum(math.prod(shape) for shape in shapes.values()) == 160_956_544
    downs = [b for b in deepdanbooru_net.blocks() if b.shortcut is not None]
    assert [(b.first, b.shortcut) for b in downs] == [(2, 1), (12, 11), (37, 36), (97, 100), (159, 158), (169, 168)]


# --- AUTOMATIC1111's file ------------------------------------------------------------------------


@pytest.mark.parametrize("half", [False, True])
def test_scores_tags_and_ratings_from_the_file(workspace, tmp_path, half):
    folder = write_deepdanbooru(tmp_path / "a1111", half=half)
    images = [smooth_photo(60, 80), smooth_photo(512, 512)]
    weights = small_weights()
    if half:
        weights = {name: value.astype(np.float16).astype(np.float32) for name, value in weights.items()}
    wanted = by_hand(weights, np.stack([letterbox(image, 512) for image in images]))
    done = run(workspace, folder, images, min_score=0)
    for record, row in zip(done, wanted, strict=True):
        assert [(a.text, a.kind) for a in record.annotations] == [
            *((name, "tag") for name in DEEPDANBOORU_TAGS[:4]),
            *((name, "rating") for name in ("safe", "questionable", "explicit")),
        ]
        assert {a.tagger for a in record.annotations} == {"deepdanbooru:a1111"}
        assert np.abs(scores(record) - row).max() < 7e-5  # rounded to 4 decimals
    (alone,) = run(workspace, folder, images[1:], min_score=0)
    assert np.abs(scores(alone) - scores(done[1])).max() < 1.01e-4
    limit = float(np.median(scores(done[0])))
    (some,) = run(workspace, folder, images[:1], min_score=limit)
    assert some.annotations == tuple(a for a in done[0].annotations if a.kind == "rating" or a.score >= limit)


def test_what_is_recorded(workspace, tmp_path):
    folder = write_deepdanbooru(tmp_path / "a1111")
    file, how = DeepDanbooru(model="a1111").models(workspace)
    assert file.sha256 == hashlib.sha256((folder / "model-resnet_custom_v3.pt").read_bytes()).hexdigest()
    assert file.name == "a1111/model-resnet_custom_v3.pt" and "Lanczos" in how.revision


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('the file was run')",))


def without(name):
    return {**{k: v for k, v in tensors(small_weights()).items() if k != name}, "tags": DEEPDANBOORU_TAGS}


BAD = {
    "a pickle": (lambda: {"tags": DEEPDANBOORU_TAGS, "n_Conv_0.weight": Evil()}, "holds more than tensors"),
    "no tags": (lambda: tensors(small_weights()), "has no list of tags"),
    "a tensor": (lambda: torch.zeros(3), "has no list of tags"),
    "another model": (
        lambda: {"tags": DEEPDANBOORU_TAGS, "conv1.weight": torch.zeros(1)},
        "has no weights 'n_Conv_0.weight'",
    ),
    "a layer less": (lambda: without("n_Conv_90.bias"), "other weights than resnet_custom_v3 (n_Conv_90.bias)"),
    "a layer more": (lambda: without("") | {"extra": torch.zeros(1)}, "other weights than resnet_custom_v3 (extra)"),
    "a list for a layer": (lambda: without("n_Conv_5.bias") | {"n_Conv_5.bias": [1]}, "(n_Conv_5.bias)"),
    "a number": (lambda: without("") | {"n_Conv_0.weight": torch.tensor(1.0)}, "has no weights"),
    "another shape": (lambda: without("") | {"n_Conv_7.bias": torch.zeros(9)}, "n_Conv_7.bias is 9, not"),
    "fewer tags": (
        lambda: without("") | {"tags": DEEPDANBOORU_TAGS[:-1]},
        "n_Conv_178.weight is 7 x 16 x 1 x 1, not 6 x",
    ),
    "tags that are none": (lambda: without("") | {"tags": [1, 2]}, "has no list of tags"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_none_is_one_sentence(workspace, tmp_path, name):
    make, words = BAD[name]
    folder = write_deepdanbooru(tmp_path / "m", make())
    with pytest.raises(PrepError) as caught:
        DeepDanbooru(model=str(folder), device="cpu").start(workspace)
    assert words in caught.value.wrong and "\n" not in caught.value.wrong
    assert f"prep models pull deepdanbooru ({format_bytes(catalog_entry('deepdanbooru').size)})" in caught.value.hint


@pytest.mark.parametrize("keep", [0, 1, 10, 3000, 0.5, 0.99])
def test_half_a_download(tmp_path, keep):
    path = write_deepdanbooru(tmp_path / "m") / "model-resnet_custom_v3.pt"
    data = path.read_bytes()
    path.write_bytes(data[: keep if keep >= 1 or keep == 0 else int(len(data) * keep)])
    with pytest.raises(PrepError, match="is not a complete PyTorch file") as caught:
        read_weights(path)
    assert "\n" not in caught.value.wrong


def test_text_and_other_files(tmp_path):
    for data in (b"version 1\n", b"<html>" * 100, b"\x80\x02}q\x00.", b"PK\x03\x04" + b"x" * 50):
        path = tmp_path / "model-resnet_custom_v3.pt"
        path.write_bytes(data)
        with pytest.raises(PrepError):
            read_weights(path)


def test_nan_is_said(workspace, tmp_path):
    weights = without("n_Conv_178.weight")
    weights["n_Conv_178.weight"] = torch.full((7, 16, 1, 1), math.nan)
    with pytest.raises(PrepError, match="not numbers"):
        run(workspace, write_deepdanbooru(tmp_path / "m", weights), [smooth_photo(20, 20)])


def test_a_missing_folder_is_said(workspace, tmp_path):
    with pytest.raises(PrepError, match="needs a model: --model"):
        DeepDanbooru().models(workspace)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PrepError, match=r"lacks model-resnet_custom_v3\.pt"):
        DeepDanbooru(model="empty").models(workspace)
    (tmp_path / "empty" / "project.json").write_text("{}")
    with pytest.raises(PrepError, match=r"lacks model\.onnx and tags\.txt"):
        DeepDanbooru(model="empty").models(workspace)


def test_memory_that_runs_out_halves_the_batch_and_changes_nothing(workspace, tmp_path, monkeypatch, caplog):
    folder = write_deepdanbooru(tmp_path / "m")
    images = [smooth_photo(40 + n, 60) for n in range(7)]
    calm = run(workspace, folder, images, min_score=0)
    build = deepdanbooru_net.build

    def tight(weights):
        network = build(weights)

        def forward(batch):
            if len(batch) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return network(batch)

        network.to = lambda device: forward
        return network

    monkeypatch.setattr(deepdanbooru_net, "build", tight)
    with caplog.at_level(logging.WARNING, "prep"):
        after = run(workspace, folder, images, min_score=0)
    assert [r.message for r in caplog.records] == [
        "deepdanbooru:m ran out of memory with a batch of 4; the batch size is now 2.",
        "deepdanbooru:m ran out of memory with a batch of 2; the batch size is now 1.",
    ]
    for one, other in zip(calm, after, strict=True):
        assert [a.text for a in one.annotations] == [a.text for a in other.annotations]
        assert np.abs(scores(one) - scores(other)).max() < 1.01e-4


# --- a project in ONNX form ----------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_project(workspace, tmp_path, end):
    folder, matrix = write_deepdanbooru_project(tmp_path / "dd", end=end)
    images = [smooth_photo(60, 80), smooth_photo(31, 20), smooth_photo(24, 24)]
    for image, record in zip(images, run(workspace, folder, images, min_score=0), strict=True):
        wanted = 1 / (1 + np.exp(-letterbox_area(image, 24).astype(np.float64).mean(axis=(0, 1)) @ matrix))
        assert [a.text for a in record.annotations] == [tag.removeprefix("rating:") for tag in DEEPDANBOORU_TAGS]
        assert np.abs(scores(record) - wanted).max() < 5.2e-5
    files = DeepDanbooru(model=str(folder)).models(workspace)
    assert [m.name for m in files[:-1]] == ["dd/model.onnx", "dd/tags.txt", "dd/project.json"]
    assert "area" in files[-1].revision


def test_categories_where_a_project_has_them(workspace, tmp_path):
    folder, _ = write_deepdanbooru_project(tmp_path / "dd")
    starts = [{"name": "General", "start_index": 0}, {"name": "Character", "start_index": 2}]
    (folder / "categories.json").write_text(json.dumps([*starts[::-1], {"name": "System", "start_index": 4}]))
    (record,) = run(workspace, folder, [smooth_photo(30, 30)], min_score=0)
    assert [a.category for a in record.annotations] == ["general"] * 2 + ["character"] * 2 + ["rating"] * 3
    assert "dd/categories.json" in [m.name for m in DeepDanbooru(model=str(folder)).models(workspace)]


PROJECTS = {
    "another size": (
        {"project.json": b'{"image_width": 32, "image_height": 32}'},
        "takes 24 pixels, but its project.json",
    ),
    "no square": ({"project.json": b'{"image_width": 32, "image_height": 24}'}, "only squares"),
    "no project": ({"project.json": b"[]"}, "is no DeepDanbooru project"),
    "half a project": ({"project.json": b'{"image_width": 2'}, "is no DeepDanbooru project"),
    "fewer tags": ({"tags.txt": b"a\nb\n"}, "7 outputs, but its tags.txt lists 2 tags"),
    "an empty tag": ({"tags.txt": b"a\n\nb\n"}, "lists an empty tag"),
    "no tags": ({"tags.txt": b""}, "lists no tags"),
    "other encoding": ({"tags.txt": b"\xff\xfe\n"}, "is not a list"),
    "bad categories": ({"categories.json": b'[{"name": 1}]'}, "categories.json is not a list"),
    "half a model": ({"model.onnx": b"\x08\x08\x12"}, "is not a complete ONNX file"),
}


@pytest.mark.parametrize("name", PROJECTS)
def test_a_bad_project_is_one_sentence(workspace, tmp_path, name):
    files, words = PROJECTS[name]
    folder, _ = write_deepdanbooru_project(tmp_path / "dd")
    for file, data in files.items():
        (folder / file).write_bytes(data)
    with pytest.raises(PrepError) as caught:
        run(workspace, folder, [smooth_photo(20, 20)])
    assert words in caught.value.wrong and "\n" not in caught.value.wrong
