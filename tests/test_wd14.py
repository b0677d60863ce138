"""WD14: the array that reaches the model, the list of tags, and one clear sentence for each bad folder."""

import csv
import hashlib
import json
import logging
import math
import threading
import time

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

import taggers.danbooru.onnx_tags
from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.workspace import Workspace
from taggers.danbooru.onnx_session import CPU, CUDA
from taggers.danbooru.scores import ModelTag
from taggers.danbooru.wd14 import GET, Wd14, prepare_cl_tagger, prepare_wd14
from taggers.danbooru.wd14_tags import read_csv, read_json
from taggers.device import gpus
from tests.fake import CELLS, CHARACTERS, RATINGS, TAGS, cropped, weights, write_csv, write_graph, write_wd14
from tests.tagger_contracts import smooth_photo, wd14_input
from tests.tagger_files import CL_TAGGER_TAGS, write_cl_tagger
from tests.tiny import write_blip

NAMES = (*RATINGS, *TAGS, *CHARACTERS)
SHAPES = [(48, 48), (200, 200), (300, 97), (96, 451), (31, 20), (1, 1), (5, 48), (60, 4000)]


def cubic_matrix(before: int, after: int) -> np.ndarray:
    """Keys' cubic (a = -0.5), widened when it shrinks, as one matrix; written from the formula."""
    scale = max(before / after, 1.0)
    centers = (np.arange(after) + 0.5) * before / after - 0.5
    t = np.abs(np.arange(before)[None] - centers[:, None]) / scale
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    kernel = np.where(t < 1, near, np.where(t < 2, far, 0))
    return kernel / kernel.sum(axis=1, keepdims=True)


def expected_scores(image: np.ndarray, side: int = 48) -> np.ndarray:
    """sigmoid(cell means @ weights + bias), one mean after another."""
    array = wd14_input(image, side).astype(np.float64)
    cell = side // CELLS
    means = [
        array[y * cell : (y + 1) * cell, x * cell : (x + 1) * cell, c].mean()
        for y in range(CELLS)
        for x in range(CELLS)
        for c in range(3)
    ]
    matrix, bias = weights(len(NAMES))
    return 1 / (1 + np.exp(-(np.array(means) / 255 @ matrix + bias)))


@pytest.fixture(autouse=True)
def _models(tmp_path, monkeypatch):
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "models"))


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


@pytest.fixture
def folder(tmp_path):
    return write_wd14(tmp_path / "small-tagger")


def run(workspace, folder, images, **options):
    records = [cropped(workspace, f"{n:03}", image) for n, image in enumerate(images)]
    return Wd14(model=str(folder), device="cpu", **options).start(workspace)(records)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_array_is_the_contracts(shape):
    image = smooth_photo(*shape)
    array = prepare_wd14(image, 48)
    assert array.dtype == np.float32 and array.shape == (48, 48, 3) and array.flags["C_CONTIGUOUS"]
    assert np.abs(array - wd14_input(image, 48)).max() < 1e-5


@pytest.mark.parametrize("shape", [(200, 200), (300, 97), (31, 20)])
def test_the_resizing_is_bicubic_up_and_down(shape):
    """Against the formula in floating point; Pillow rounds twice, so a level and a half is allowed."""
    image = smooth_photo(*shape).astype(np.float64)
    longest = max(shape)
    top, left = (longest - shape[0]) // 2, (longest - shape[1]) // 2
    square = np.full((longest, longest, 3), 255.0)
    square[top : top + shape[0], left : left + shape[1]] = image
    matrix = cubic_matrix(longest, 48)
    formula = np.clip(np.einsum("ij,jkc,lk->ilc", matrix, square, matrix), 0, 255)[:, :, ::-1]
    inside = np.abs(prepare_wd14(smooth_photo(*shape), 48) - formula)
    assert np.quantile(inside, 0.999) < 1.5 and inside.mean() < 0.5


def test_channels_are_blue_green_red_and_levels_stay_0_to_255():
    red = np.zeros((48, 48, 3), np.uint8)
    red[..., 0] = 255
    assert prepare_wd14(red, 48)[0, 0].tolist() == [0.0, 0.0, 255.0]


def test_an_odd_margin_is_larger_below_and_to_the_right():
    black = np.zeros((3, 8, 3), np.uint8)
    assert [row[0, 0] for row in prepare_wd14(black, 8)[:, :1]] == [255, 255, 0, 0, 0, 255, 255, 255]
    assert prepare_wd14(black.swapaxes(0, 1), 8)[0, :, 0].tolist() == [255, 255, 0, 0, 0, 255, 255, 255]


def test_scores_are_the_models_and_signed_with_the_folders_name(workspace, folder):
    images = [smooth_photo(*shape) for shape in SHAPES]
    for image, record in zip(images, run(workspace, folder, images, min_score=0), strict=True):
        assert [a.text for a in record.annotations] == list(NAMES)
        assert {a.tagger for a in record.annotations} == {"wd14:small-tagger"}
        scores = np.array([a.score for a in record.annotations])
        assert np.abs(scores - expected_scores(image)).max() < 5.2e-5  # rounded to 4 decimals


def test_kinds_and_the_tags_own_spelling(workspace, folder):
    (record,) = run(workspace, folder, [smooth_photo(60, 80)], min_score=0)
    kinds = {a.text: (a.kind, a.category) for a in record.annotations}
    assert [kinds[name] for name in RATINGS] == [("rating", "rating")] * 4
    assert [kinds[name] for name in TAGS] == [("tag", "general")] * len(TAGS)
    assert [kinds[name] for name in CHARACTERS] == [("tag", "character")] * 2
    assert {"long_hair", "^_^", 'don\'t_say_"lazy"', "smile_(object)"} <= kinds.keys()


def test_the_floor_keeps_what_is_on_it_and_all_ratings(workspace, folder):
    image = smooth_photo(60, 80)
    (everything,) = run(workspace, folder, [image], min_score=0)
    limit = sorted(a.score for a in everything.annotations if a.kind == "tag")[4]
    (some,) = run(workspace, folder, [image], min_score=limit)
    assert some.annotations == tuple(a for a in everything.annotations if a.kind == "rating" or a.score >= limit)
    assert sum(a.kind == "tag" for a in some.annotations) == len(NAMES) - 4 - 4
    (few,) = run(workspace, folder, [image], min_score=1)
    assert [a.text for a in few.annotations] == list(RATINGS)
    with pytest.raises(PrepError, match="min_score is 2"):
        Wd14(min_score=2)


@pytest.mark.parametrize("batch", [0, 1, 4])
def test_together_or_one_by_one_is_the_same_and_fixed_batches_are_honoured(workspace, tmp_path, batch):
    images = [smooth_photo(40 + 7 * n, 50) for n in range(11)]
    folder = write_wd14(tmp_path / "m", batch=batch)
    together = run(workspace, folder, images, min_score=0)
    for n, image in enumerate(images):
        (alone,) = run(workspace, folder, [image], min_score=0)
        pairs = zip(alone.annotations, together[n].annotations, strict=True)
        assert all(a.text == b.text and abs(a.score - b.score) < 1.01e-4 for a, b in pairs)
        scores = [a.score for a in together[n].annotations]
        assert np.abs(scores - expected_scores(image)).max() < 5.2e-5


def test_size_is_read_from_the_model(workspace, tmp_path):
    image = smooth_photo(50, 70)
    (record,) = run(workspace, write_wd14(tmp_path / "m", side=96), [image], min_score=0)
    assert np.abs(np.array([a.score for a in record.annotations]) - expected_scores(image, 96)).max() < 5.2e-5


def test_a_second_output_is_an_embedding(workspace, folder):
    model = onnx.load(folder / "model.onnx")
    model.graph.output.insert(0, onnx.helper.make_tensor_value_info("row", onnx.TensorProto.FLOAT, ("batch_size", 27)))
    onnx.save(model, folder / "model.onnx")
    image = smooth_photo(50, 70)
    (record,) = run(workspace, folder, [image], min_score=0)
    assert np.abs(np.array([a.score for a in record.annotations]) - expected_scores(image)).max() < 5.2e-5


def test_the_hashes_are_of_both_files_and_the_folder_may_move(workspace, folder, tmp_path):
    model, tags, how = Wd14(model=str(folder)).models(workspace)
    assert model.name == "small-tagger/model.onnx" and tags.name == "small-tagger/selected_tags.csv"
    assert how == Model("wd14 preprocess", "", "white square, bicubic, BGR from 0 to 255, channels last")
    assert model.sha256 == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert tags.sha256 == hashlib.sha256((folder / "selected_tags.csv").read_bytes()).hexdigest()
    assert Wd14(model="small-tagger").models(workspace) == (model, tags, how)  # relative to the workspace
    assert Wd14(model=str(folder)).params() == {"min_score": 0.05}


# --- selected_tags.csv ---------------------------------------------------------------------------

names = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=20)
numbers = st.sampled_from([0, 4, 9]).flatmap(lambda n: st.sampled_from([(n, n), (n, f"{n}.0"), (n, f" {n}")]))
KINDS = {0: ("tag", "general"), 4: ("tag", "character"), 9: ("rating", "rating")}


@given(rows=st.lists(st.tuples(names, numbers), min_size=1), end=st.sampled_from(["\n", "\r\n"]), bom=st.booleans())
@example(rows=[('don\'t_say_"lazy"', (0, 0)), ("a,b", (4, "4.0")), ("||_||", (9, 9))], end="\r\n", bom=True)
@settings(deadline=None)
def test_tags_are_read_back_as_written(tmp_path_factory, rows, end, bom):
    path = tmp_path_factory.mktemp("c") / "selected_tags.csv"
    write_csv(path, [(written, name) for name, (_, written) in rows], end)
    if bom:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_csv(path, GET) == [ModelTag(name, *KINDS[number]) for name, (number, _) in rows]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = tmp_path / "selected_tags.csv"
    path.write_bytes(b"\xef\xbb\xbfname,category\r\nsolo,0\r\n")
    assert read_csv(path, GET) == [ModelTag("solo", "tag", "general")]


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda t: f"name,category\n{t}".encode())))
@example(b"name,category\n" + b"x" * 140_000 + b",0\n")
@example(b"name,category\n\xff,0\n")
@settings(deadline=None)
def test_any_bytes_are_a_list_or_a_sentence(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("c") / "selected_tags.csv"
    path.write_bytes(data)
    try:
        tags = read_csv(path, GET)
    except PrepError as error:
        assert str(path) in error.wrong and error.hint
    else:
        assert tags and all(tag.text and (tag.kind, tag.category) != ("", "") for tag in tags)


# --- folders that are not what they should be ----------------------------------------------------


def lose(name):
    return lambda folder: (folder / name).unlink()


def put(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def cut(folder):
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:700])


def fewer_rows(folder):
    write_csv(folder / "selected_tags.csv", [(0, name) for name in NAMES[:-1]])


def graph(**options):
    return lambda folder: write_graph(
        folder / "model.onnx", **{"outputs": len(NAMES), "side": 48, "batch": 0, **options}
    )


def edited(change):
    def edit(folder):
        model = onnx.load(folder / "model.onnx")
        change(model.graph)
        onnx.save(model, folder / "model.onnx")

    return edit


def bad_bias(graph):
    bias = next(i for i in graph.initializer if i.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(len(NAMES), np.nan, np.float32), "bias"))


def no_sigmoid(graph):
    graph.node[-1].op_type = "Identity"


def unknown_operator(graph):
    graph.node[-1].op_type = "Sigmond"


def any_output(graph):
    """The file no longer says how many scores there are: only running it tells."""
    all_of_them = numpy_helper.from_array(np.ones(len(NAMES), bool), "all")
    graph.initializer.append(all_of_them)
    graph.node[-1].output[0] = "scores"
    graph.node.append(onnx.helper.make_node("Compress", ["scores", "all"], ["predictions_sigmoid"], axis=1))
    graph.output[0].type.tensor_type.shape.dim[1].dim_param = "tags"


def newer(folder):
    model = onnx.load(folder / "model.onnx")
    model.ir_version = 99
    onnx.save(model, folder / "model.onnx")


def doubles(graph):
    graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    graph.node.insert(0, onnx.helper.make_node("Cast", ["input_1:0"], ["float"], to=onnx.TensorProto.FLOAT))
    graph.node[1].input[0] = "float"


BAD = {
    "no model": (lose("model.onnx"), "lacks model.onnx"),
    "no list": (lose("selected_tags.csv"), "lacks selected_tags.csv"),
    "empty list": (put("selected_tags.csv", b""), "no columns 'name' and 'category'"),
    "only a header": (put("selected_tags.csv", b"tag_id,name,category,count\n"), "lists no tags"),
    "other columns": (put("selected_tags.csv", b"id,tag\n1,a\n"), "no columns 'name' and 'category'"),
    "short row": (put("selected_tags.csv", b"tag_id,name,category\n1,a\n"), "line 2: category None"),
    "unknown category": (put("selected_tags.csv", b"name,category\na,0\nb,7\n"), "line 3: category '7'"),
    "infinite category": (put("selected_tags.csv", b"name,category\na,inf\n"), "line 2: category 'inf'"),
    "no name": (put("selected_tags.csv", b"name,category\n,0\n"), "line 2: the tag has no name"),
    "other encoding": (put("selected_tags.csv", "name,category\né,0\n".encode("latin-1")), "is not a list of tags"),
    "fewer rows than outputs": (fewer_rows, "14 outputs, but its selected_tags.csv lists 13 tags"),
    "empty model": (put("model.onnx", b""), "is not a complete ONNX file"),
    "pointer": (put("model.onnx", b"version https://git-lfs.github.com/spec/v1\n"), "is a git-lfs pointer"),
    "half a model": (cut, "is not a complete ONNX file"),
    "unknown operator": (edited(unknown_operator), "model.onnx: This is an invalid model"),
    "newer format": (newer, "model.onnx: Unsupported model IR version: 99"),
    "channels first": (graph(layout="NCHW"), "batch x side x side x 3"),
    "doubles": (edited(doubles), "takes tensor(double)"),
    "not a number": (edited(bad_bias), "nan"),
    "no probabilities": (edited(no_sigmoid), "which are no probabilities"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_one_sentence_and_what_to_do(workspace, folder, name):
    spoil, words = BAD[name]
    spoil(folder)
    with pytest.raises(PrepError) as caught:
        run(workspace, folder, [smooth_photo(60, 80)])
    assert words in caught.value.wrong and "\n" not in caught.value.wrong
    assert "SmilingWolf/wd-vit-tagger-v3" in caught.value.hint and "selected_tags.csv" in caught.value.hint


def test_scores_that_only_show_up_when_running_are_counted_too(workspace, folder):
    edited(any_output)(folder)
    fewer_rows(folder)
    with pytest.raises(PrepError, match=r"gives 14 scores per image, but .* lists 13 tags"):
        run(workspace, folder, [smooth_photo(60, 80)])


def test_no_folder_and_a_wrong_folder(workspace, tmp_path):
    with pytest.raises(PrepError, match="needs a model: --model"):
        Wd14().models(workspace)
    with pytest.raises(PrepError, match=r"another kind \(BlipForCond\w+\): it has no model.onnx and selected_tags.csv"):
        Wd14(model=str(write_blip(tmp_path / "blip"))).models(workspace)
    for wrong in (tmp_path / "nowhere", write_wd14(tmp_path / "m") / "model.onnx"):
        with pytest.raises(PrepError, match="There is no model folder"):
            Wd14(model=str(wrong)).models(workspace)


# --- cl_tagger's form ----------------------------------------------------------------------------


def cl_scores(image):
    """Cell by cell: channel c of blue, green, red, from -1 to 1; then the sigmoid."""
    array = wd14_input(image, 48).astype(np.float64) / 255 * 2 - 1
    cell = 48 // CELLS
    means = [
        array[y * cell : (y + 1) * cell, x * cell : (x + 1) * cell, c].mean()
        for c in range(3)
        for y in range(CELLS)
        for x in range(CELLS)
    ]
    return 1 / (1 + np.exp(-(np.array(means) @ weights(len(CL_TAGGER_TAGS))[0])))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_array_of_the_other_form(shape):
    image = smooth_photo(*shape)
    array = prepare_cl_tagger(image, 48)
    assert array.dtype == np.float32 and array.shape == (3, 48, 48) and array.flags["C_CONTIGUOUS"]
    assert np.abs(array - (wd14_input(image, 48) / 127.5 - 1).transpose(2, 0, 1)).max() < 1e-6


@pytest.mark.parametrize(
    "how", [{}, {"model": "model.onnx"}, {"older": True}, {"dtype": "FLOAT16"}, {"batch": 1}, {"batch": 4}]
)
def test_the_other_form(workspace, tmp_path, how):
    folder = write_cl_tagger(tmp_path / "cl_tagger_1_02", **how)
    images = [smooth_photo(*shape) for shape in SHAPES]
    for image, record in zip(images, run(workspace, folder, images, min_score=0), strict=True):
        said = [(a.text, a.kind, a.category) for a in record.annotations]
        assert said == [(text, "rating" if w == "Rating" else "tag", w.lower()) for text, w in CL_TAGGER_TAGS]
        assert {a.tagger for a in record.annotations} == {"wd14:cl_tagger"}
        error = np.abs(np.array([a.score for a in record.annotations]) - cl_scores(image)).max()
        assert error < (5e-3 if "dtype" in how else 5.2e-5)
    model, tags, form = Wd14(model=str(folder)).models(workspace)
    assert model.name.endswith(how.get("model", "model_optimized.onnx")) and tags.name.endswith("tag_mapping.json")
    assert "sigmoid" in form.revision


def test_a_size_that_the_file_leaves_open_is_448(workspace, tmp_path):
    folder = write_cl_tagger(tmp_path / "m", side="side")
    seen = tagger_arrays(Wd14(model=str(folder), device="cpu"), workspace, smooth_photo(60, 80))
    assert seen.shape == (3, 448, 448)


def tagger_arrays(tagger, workspace, image):
    return tagger.load(workspace).prepare(image)


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.text(), st.dictionaries(st.text(), st.text()))))
@example({"0": {"tag": "a", "category": "General"}, "2": {"tag": "b", "category": "General"}})
@example({"0": {"tag": "", "category": "General"}})
@example({"0": {"tag": "a", "category": None}})
@example({"idx_to_tag": {"0": "a"}, "tag_to_category": None})
@example({"idx_to_tag": {"0": "a"}})
def test_any_mapping_is_a_list_or_a_sentence(tmp_path_factory, plain):
    path = tmp_path_factory.mktemp("j") / "tag_mapping.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(PrepError) as caught:
        read_json(path, GET)
    assert str(path) in caught.value.wrong and "\n" not in caught.value.wrong


@pytest.mark.parametrize("data", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"null", b"{}", b"[" * 100_000])
def test_any_bytes_are_no_mapping(tmp_path, data):
    path = tmp_path / "tag_mapping.json"
    path.write_bytes(data)
    with pytest.raises(PrepError):
        read_json(path, GET)


def cl_edit(change):
    def edit(folder):
        model = onnx.load(folder / "model_optimized.onnx")
        change(model.graph)
        onnx.save(model, folder / "model_optimized.onnx")

    return edit


def already_probabilities(graph):
    graph.node[-1].output[0] = "before"
    graph.node.append(onnx.helper.make_node("Sigmoid", ["before"], ["logits"]))


def nan_matrix(graph):
    matrix = next(i for i in graph.initializer if i.name == "matrix")
    matrix.CopyFrom(numpy_helper.from_array(np.full((27, len(CL_TAGGER_TAGS)), np.nan, np.float32), "matrix"))


CL_BAD = {
    "no model": (lose("model_optimized.onnx"), "lacks model"),
    "fewer tags": (put("tag_mapping.json", b'{"0": {"tag": "a", "category": "Meta"}}'), "lists 1 tags"),
    "a category more": (put("tag_mapping.json", b'{"0": {"tag": "a", "category": "Species"}}'), "'Species' is none of"),
    "probabilities": (cl_edit(already_probabilities), "gives probabilities"),
    "not a number": (cl_edit(nan_matrix), "nan"),
    "the other layout": (
        lambda folder: write_graph(folder / "model_optimized.onnx", len(CL_TAGGER_TAGS), 48, 0),
        "batch x 3 x side x side",
    ),
}


@pytest.mark.parametrize("name", CL_BAD)
def test_a_bad_folder_of_the_other_form(workspace, tmp_path, name):
    spoil, words = CL_BAD[name]
    folder = write_cl_tagger(tmp_path / "m")
    spoil(folder)
    with pytest.raises(PrepError) as caught:
        run(workspace, folder, [smooth_photo(60, 80)])
    assert words in caught.value.wrong and "\n" not in caught.value.wrong and caught.value.hint


# --- names, memory -------------------------------------------------------------------------------


def test_a_pulled_model_is_found_by_its_hub_id_and_its_short_name(workspace, tmp_path):
    write_wd14(tmp_path / "models" / "SmilingWolf--wd-vit-tagger-v3")
    image = smooth_photo(60, 80)
    by_id, by_name, by_folder = (
        run(workspace, name, [image])[0]
        for name in (
            "SmilingWolf/wd-vit-tagger-v3",
            "wd-vit-tagger-v3",
            tmp_path / "models" / "SmilingWolf--wd-vit-tagger-v3",
        )
    )
    assert by_id.annotations == by_name.annotations == by_folder.annotations
    assert {a.tagger for a in by_id.annotations} == {"wd14:wd-vit-tagger-v3"}
    with pytest.raises(PrepError, match="is not on this machine") as caught:
        Wd14(model="wd-v1-4-moat-tagger-v2").models(workspace)
    assert "prep models pull wd-v1-4-moat-tagger-v2" in caught.value.hint


class Tight:
    """A session with memory for so many images at once, in one call or in several."""

    def __init__(self, session, most, error, on_gpu):
        self.session, self.most, self.error, self.on_gpu = session, most, error, on_gpu
        self.sizes = []
        self.inside, self.turn = 0, threading.Lock()

    def run(self, outputs, feed):
        (array,) = feed.values()
        with self.turn:
            self.sizes.append(len(array))
            self.inside += len(array)
            full = self.inside > self.most
        try:
            time.sleep(0 if self.on_gpu else 0.02)  # so that lanes meet
            if full:
                raise self.error
            return self.session.run(outputs, feed)
        finally:
            with self.turn:
                self.inside -= len(array)

    def get_providers(self):
        return [CUDA, CPU] if self.on_gpu else [CPU]

    def __getattr__(self, name):
        return getattr(self.session, name)


def tight(monkeypatch, most, error, lanes=1):
    """Sessions with little memory, on a pretended GPU or on a CPU of so many lanes."""
    made = []
    here = taggers.danbooru.onnx_tags
    opened = here.open_session
    monkeypatch.setattr(here, "worker_count", lambda device: lanes)
    monkeypatch.setattr(
        here, "open_session", lambda *how: made.append(Tight(opened(*how), most, error, lanes == 1)) or made[-1]
    )
    return made


SAID = [
    state.RuntimeException("bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 822083584"),
    state.Fail("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size)"),
    state.EPFail("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED"),
    MemoryError(),
]


@pytest.mark.parametrize("error", SAID, ids=lambda error: type(error).__name__)
def test_memory_that_runs_out_halves_the_batch_says_so_and_goes_on(workspace, folder, monkeypatch, caplog, error):
    images = [smooth_photo(40 + 7 * n, 50) for n in range(20)]
    calm = run(workspace, folder, images, min_score=0)
    sessions = tight(monkeypatch, 1, error)
    with caplog.at_level(logging.WARNING, "prep"):
        after = run(workspace, folder, images, min_score=0)
    assert sessions[0].sizes == [20, 10, 5, 3, 2, *[1] * 20]
    assert [record.message for record in caplog.records] == [
        f"wd14:small-tagger ran out of memory with a batch of {had}; the batch size is now {has}."
        for had, has in ((20, 10), (10, 5), (5, 3), (3, 2), (2, 1))
    ]
    for one, other in zip(calm, after, strict=True):
        assert [a.text for a in one.annotations] == [a.text for a in other.annotations]
        pairs = zip(one.annotations, other.annotations, strict=True)
        assert all(abs(a.score - b.score) < 1.01e-4 for a, b in pairs)


def test_lanes_that_do_not_fit_together_take_turns(workspace, folder, monkeypatch, caplog):
    """Three threads of a CPU, memory for one: what is left is one image after another, with the same scores."""
    images = [smooth_photo(40 + 7 * n, 50) for n in range(14)]
    calm = run(workspace, folder, images, min_score=0)
    sessions = tight(monkeypatch, 1, SAID[0], lanes=3)
    with caplog.at_level(logging.WARNING, "prep"):
        assert run(workspace, folder, images, min_score=0) == calm
    assert set(sessions[0].sizes) == {1} and "now 1." in caplog.records[-1].message


def test_memory_that_is_not_enough_for_one_and_other_faults(workspace, folder, monkeypatch):
    tight(monkeypatch, 0, SAID[0])
    with pytest.raises(PrepError, match="out of memory with a single image") as caught:
        run(workspace, folder, [smooth_photo(40, 50)] * 3)
    assert "--device cpu" in caught.value.hint
    monkeypatch.undo()
    tight(monkeypatch, 0, state.RuntimeException("some other fault"))
    with pytest.raises(state.RuntimeException, match="some other fault"):
        run(workspace, folder, [smooth_photo(40, 50)])


# --- devices -------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(gpus() == 0, reason="there is no GPU")
def test_the_gpu_says_what_the_cpu_says(workspace, folder):
    image = smooth_photo(60, 80)
    record = cropped(workspace, "a", image)
    (done,) = Wd14(model=str(folder), device="cuda", min_score=0).start(workspace)([record])
    assert np.abs(np.array([a.score for a in done.annotations]) - expected_scores(image)).max() < 1e-3


def test_the_fake_folder_is_of_the_real_form(folder):
    """What other tests build on: the columns, the order, quoting, and scores that tell images apart."""
    with (folder / "selected_tags.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["tag_id", "name", "category", "count"]
    assert [row["category"] for row in rows] == ["9"] * 4 + ["0"] * len(TAGS) + ["4"] * 2
    assert '"don\'t_say_""lazy"""' in (folder / "selected_tags.csv").read_text()
    a, b = expected_scores(smooth_photo(60, 80)), expected_scores(255 - smooth_photo(60, 80))
    assert not math.isclose(np.abs(a - b).max(), 0, abs_tol=0.05)
