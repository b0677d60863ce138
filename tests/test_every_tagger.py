"""What holds for every tagger with a model: what the manifest records of it, how it runs on Ray, real weights."""

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.engines import local, ray_data
from pipeline.errors import PrepError
from pipeline.execution import RunSettings
from pipeline.history import HistoryStep
from pipeline.manifest import Manifest, write_manifest
from pipeline.models.catalog import CATALOG
from pipeline.models.pull_record import RECORD
from pipeline.registry import StagePlan
from pipeline.run import update_stage
from pipeline.vectors import PROVENANCE
from taggers.basic import Basic
from taggers.captioners.blip import Blip
from taggers.captioners.captioner import Captioner
from taggers.captioners.git import Git
from taggers.captioners.vlm import Vlm
from taggers.clip.clip import Clip
from taggers.danbooru.deepdanbooru import DeepDanbooru
from taggers.danbooru.wd14 import Wd14
from taggers.tagger import PreparedPredictor, tagging_work
from tests.fake import cropped, write_wd14
from tests.make import workspace as make_workspace
from tests.photographs import photograph
from tests.shell import prep
from tests.tagger_contracts import blip_input, deepdanbooru_input, git_input, wd14_input
from tests.tagger_files import FORMATS
from tests.tiny import one_thread, photo, write_blip  # noqa: F401

COMMIT = "c0ffee" * 6 + "beef"
WEIGHTS = (".onnx", ".safetensors", ".pt")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "models"))
    return make_workspace(tmp_path / "smith")


def crops(workspace, images):
    records = [cropped(workspace, f"{n:016x}", image) for n, image in enumerate(images)]
    return write_manifest(workspace.manifest("crop"), [records], (HistoryStep("crop", 1, {}, ""),))


def tag(workspace, tagger, source, engine=local.run, workers=0):
    workspace.manifest("tag").unlink(missing_ok=True)
    workspace.manifest(f"tag.{tagger.label}").unlink(missing_ok=True)
    return update_stage(
        StagePlan("tag", (tagger,), joined=True), source, workspace, RunSettings(engine, workers, quiet=True)
    ).manifest


def pulled(folder):
    """The folder as a pull leaves it: with a record of the commit and of every file."""
    files = {
        path.name: {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in folder.iterdir()
    }
    record = {"name": folder.name.replace("--", "/"), "revision": COMMIT, "files": files}
    (folder / RECORD).write_text(json.dumps(record))
    return {name: one["sha256"] for name, one in files.items()}


@pytest.mark.parametrize("form", FORMATS)
def test_the_manifest_records_the_model_its_files_and_how_it_was_used(workspace, tmp_path, form):
    """Name, commit, hash of every file that decides, preprocess and parameters, beside who signs the annotations."""
    cls, write = FORMATS[form]
    write(tmp_path / "models" / "somebody--small-model")
    files = pulled(tmp_path / "models" / "somebody--small-model")
    short = {"max_tokens": 8} if issubclass(cls, Captioner) else {}
    tagger = cls(model="somebody/small-model", device="cpu", **short)
    manifest = tag(workspace, tagger, crops(workspace, [photo(60, 80)]))
    step = manifest.history[-1]
    assert (step.stage, step.params) == (cls.name, tagger.params())
    *models, preprocess = sorted(step.models, key=lambda model: model.name.endswith("preprocess"))
    recorded = {model.name.removeprefix("somebody/small-model/"): model for model in models}
    recorded.pop(PROVENANCE, None)  # no file: where CLIP's vectors are kept
    assert {name for name in files if name.endswith(WEIGHTS)} <= recorded.keys() <= files.keys()
    for name, model in recorded.items():
        assert (model.sha256, model.revision) == (files[name], COMMIT)
    assert preprocess.name == f"{cls.name} preprocess" and len(preprocess.revision) > 10
    assert {a.tagger for r in manifest.records() for a in r.annotations} <= {f"{cls.name}:small-model"}
    assert step.libraries.keys() == set(cls.libraries)


# --- from the user's file to the model's array ---------------------------------------------------

WIDE, TALL, EVEN = (192, 320), (320, 192), (256, 256)  # shapes that prep crop at 256 pixels leaves as they are


def turned(rgb):
    """An image that lies on its side in the file, and says so."""
    exif = Image.Exif()
    exif[0x0112] = 6  # its top is the file's right side
    return Image.fromarray(np.rot90(rgb)), {"exif": exif}


def veiled(rgb):
    """Half transparent at the top, fully at the bottom, where the hidden colors differ from all others."""
    alpha = np.linspace(128, 0, rgb.shape[0]).astype(np.uint8)[:, None, None] * np.ones((1, rgb.shape[1], 1), np.uint8)
    return Image.fromarray(np.concatenate([rgb, alpha], 2)), {}


def grey(rgb):
    return Image.fromarray(rgb).convert("L"), {}


def as_seen(how, rgb):
    """What a person sees of it on white paper, by the definitions of the forms."""
    if how is veiled:
        share = np.linspace(128, 0, rgb.shape[0]).astype(np.uint8)[:, None, None] / 255
        return np.round(rgb * share + 255 * (1 - share)).astype(np.uint8)
    if how is grey:
        luma = rgb.astype(np.float64) @ [0.299, 0.587, 0.114]  # ITU-R BT.601
        return np.repeat(np.round(luma).astype(np.uint8)[:, :, None], 3, 2)
    return rgb


FILES = {
    "rgb": (lambda rgb: (Image.fromarray(rgb), {}), EVEN),
    "wide": (lambda rgb: (Image.fromarray(rgb), {}), WIDE),
    "tall": (lambda rgb: (Image.fromarray(rgb), {}), TALL),
    "turned": (turned, TALL),
    "alpha": (veiled, EVEN),
    "wide alpha": (veiled, WIDE),
    "grey": (grey, EVEN),
}
LOOKS = {  # the side of the small models' images, and the contract written again; how far a level more moves it
    "wd14": (lambda rgb: wd14_input(rgb, 48), 1.0),
    "deepdanbooru": (lambda rgb: deepdanbooru_input(rgb, 512), 1 / 255),
    "blip": (lambda rgb: blip_input(rgb, 32), 1 / 255 / 0.26),
    "git": (lambda rgb: git_input(rgb, 24), 1 / 255 / 0.26),
}


def test_every_kind_of_file_reaches_the_models_as_a_person_sees_it(workspace, tmp_path):
    """Through prep crop and each tagger's own reading; equal but for a level where transparency is rounded."""
    raw = tmp_path / "smith" / "raw"
    for name, (how, shape) in FILES.items():
        image, more = how(photo(*shape))
        image.save(raw / f"{name}.png", **more)
    (tmp_path / "smith" / "prep.toml").write_text('[[subject]]\ntoken = "x"\nclass = "thing"\nfolder = "raw"\n')
    prep("-C", tmp_path / "smith", "crop", "--resolution", "256")
    records = {Path(r.source).stem: r for r in Manifest.read(workspace.manifest("crop")).records() if r.kept}
    assert records.keys() == FILES.keys()
    for form, (contract, level) in LOOKS.items():
        cls, write = FORMATS[form]
        write(tmp_path / "models" / f"a--{form}")
        tagger, seen = cls(model=f"a/{form}", device="cpu"), []
        look = tagger.load(workspace)
        spy = PreparedPredictor(look.prepare, lambda ready: seen.extend(ready) or [[] for _ in ready])  # noqa: B023
        tagging_work(tagger, spy, workspace)(list(records.values()))
        for name, array in zip(records, seen, strict=True):
            how, shape = FILES[name]
            expected = contract(as_seen(how, photo(*shape)))
            found = np.asarray(getattr(array, "pixels", array), np.float64)
            assert np.abs(found - expected).max() < (1e-5 if how not in (veiled, grey) else 1.01 * level), (form, name)


# --- Ray -----------------------------------------------------------------------------------------


def count_load(workspace):
    """Leave a file for each time that a model is loaded."""
    folder = workspace.root / "loads"
    folder.mkdir(exist_ok=True)
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    (folder / f"{os.getpid()}-{time.monotonic_ns()}").write_text(gpus)


class CountedWd14(Wd14):
    def load(self, workspace):
        count_load(workspace)
        return super().load(workspace)


class CountedBlip(Blip):
    def load(self, workspace):
        count_load(workspace)
        return super().load(workspace)


class Gathering(CountedWd14):
    """Does not begin before two copies are loaded: on a busy machine the first would do all the work alone."""

    def load(self, workspace):
        look = super().load(workspace)
        until = time.monotonic() + 120
        while len(list((workspace.root / "loads").iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        return look


def test_on_ray_the_actor_loads_the_model_once_and_says_the_same(workspace, tmp_path):
    """Three batches, one load, in a process that is not ours."""
    ray = pytest.importorskip("ray")
    source = crops(workspace, [photo(40 + n, 50) for n in range(80)])
    wd14, blip = write_wd14(tmp_path / "small-tagger"), write_blip(tmp_path / "small-blip")
    for tagger in (CountedWd14(model=str(wd14)), CountedBlip(model=str(blip), max_tokens=4)):
        here = tag(workspace, tagger, source).digest
        for trace in (workspace.root / "loads").iterdir():
            trace.unlink()
        assert tag(workspace, tagger, source, ray_data.run).digest == here
        (load,) = (workspace.root / "loads").iterdir()
        assert load.name.partition("-")[0] != str(os.getpid())
    load.unlink()
    two = Gathering(model=str(wd14))
    assert tag(workspace, two, source, ray_data.run, 2).digest == tag(workspace, Wd14(model=str(wd14)), source).digest
    loaders = [load.name.partition("-")[0] for load in (workspace.root / "loads").iterdir()]
    assert len(loaders) == len(set(loaders)) == 2  # asked for: two copies, each loaded once
    ray.shutdown()


def test_on_ray_each_copy_has_a_gpu_of_its_own(workspace, tmp_path):
    """Two GPUs that only Ray believes in: unless told otherwise two copies, each sees one, batches stay whole."""
    ray = pytest.importorskip("ray")
    source = crops(workspace, [photo(40 + n, 50) for n in range(80)])
    model = str(write_wd14(tmp_path / "small-tagger"))
    here = tag(workspace, Wd14(model=model), source).digest
    ray.shutdown()
    ray.init(num_cpus=2, num_gpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    try:
        assert tag(workspace, Gathering(model=model), source, ray_data.run).digest == here
        assert sorted(load.read_text() for load in (workspace.root / "loads").iterdir()) == ["0", "1"]
        with pytest.raises(PrepError, match=r"^3 workers need a GPU each, but Ray finds 2\."):
            tag(workspace, Wd14(model=model), source, ray_data.run, 3)
        # What a copy finds where it runs reaches the user as it was said.
        with pytest.raises(PrepError, match=r"^--device cuda needs a CUDA GPU, and there is none"):
            tag(workspace, Wd14(model=model, device="cuda"), source, ray_data.run, 1)
        (tmp_path / "small-tagger" / "selected_tags.csv").write_text("tag_id,name,category,count\n1,hat,0,1\n")
        with pytest.raises(PrepError, match=r"its selected_tags\.csv lists 1 tags: they do not match"):
            tag(workspace, Wd14(model=model), source, ray_data.run, 1)
    finally:
        ray.shutdown()


@pytest.mark.parametrize(
    ("device", "there", "workers", "wanted"),
    [("cpu", 4, 0, 0), ("auto", 0, 3, 0), ("auto", 4, 0, 4), ("auto", 4, 2, 4), ("cuda", 1, 1, 1)],
)
def test_gpus_are_asked_for_where_the_tagger_takes_one(device, there, workers, wanted):
    assert ray_data.gpus_of(Wd14(device=device), there, workers) == wanted
    assert ray_data.gpus_of(Basic(), there, workers) == 0


def test_no_gpu_and_one_asked_for_is_said():
    with pytest.raises(PrepError, match=r"^--device is cuda, but Ray finds no GPU"):
        ray_data.gpus_of(Wd14(device="cuda"), 0, 0)


# --- real weights --------------------------------------------------------------------------------

REAL = {  # a model of each tagger, by the name under which it is pulled
    "wd-vit-tagger-v3": Wd14,
    "wd-v1-4-moat-tagger-v2": Wd14,
    "cl-tagger": Wd14,
    "deepdanbooru": DeepDanbooru,
    "blip-base": Blip,
    "blip-large": Blip,
    "git-base-coco": Git,
    "git-large-textcaps": Git,
    "clip-vit-b-32": Clip,
    "clip-vit-l-14": Clip,
    "qwen3-vl-4b": Vlm,
    "florence-2-base": Vlm,
}


@pytest.mark.weights
@pytest.mark.parametrize("name", REAL)
def test_real_files_hold_what_the_synthetic_ones_do(workspace, monkeypatch, name):
    """Loads, finite scores, batch equals single, and something is said of a photograph of a person."""
    if not os.environ.get("PREP_WEIGHTS"):
        pytest.skip("PREP_WEIGHTS names no folder of pulled models")
    monkeypatch.setenv("PREP_MODELS", os.environ["PREP_WEIGHTS"])
    tagger = REAL[name](model=name)
    try:
        tagger.models(workspace)
    except PrepError as error:
        pytest.skip(f"{name} is not in PREP_WEIGHTS: {error.wrong}")
    images = [np.asarray(photograph(file)) for file in ("astronaut.png", "chelsea.png", "coffee.png")]
    records = [cropped(workspace, f"{n}", image) for n, image in enumerate(images)]
    work = tagger.start(workspace)
    together, alone = work(records), [work([record])[0] for record in records]
    for one, other in zip(together, alone, strict=True):
        assert one.drop is None and one.annotations
        assert [a.text for a in one.annotations if (a.score or 0) > 0.1] == [
            a.text for a in other.annotations if (a.score or 0) > 0.1
        ]
        pairs = {a.text: a.score for a in other.annotations}
        assert all(abs(a.score - pairs[a.text]) < 1.1e-4 for a in one.annotations if a.text in pairs and a.score)
        assert all(a.score is None or 0 <= a.score <= 1 for a in one.annotations)


def test_the_real_models_of_these_tests_are_known():
    used_by = {entry.name: entry.used_by for entry in CATALOG}
    assert {name: cls.name for name, cls in REAL.items()}.items() <= used_by.items()
    assert {cls for cls, _ in FORMATS.values()} == set(REAL.values()), "every tagger has one"
