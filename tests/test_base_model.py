"""Finding the base model: mini, folder, single file, hub id; and everything that is none of these."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import PrepError
from pipeline.workspace import Workspace
from tests.training_set import SD1_PARTS as PARTS
from tests.training_set import checkpoint, narrow, shared, workspace
from training.models.base_model import find_base
from training.models.mini import SHA256, VAE_SHA256, ensure_mini


def test_folder_is_known_by_its_weights(tmp_path, monkeypatch):
    work = workspace(tmp_path / "w")
    hashes = {p: hashlib.sha256((narrow() / p / f).read_bytes()).hexdigest() for p, f in PARTS.items()}
    base = find_base(str(narrow()), work)
    joined = "\n".join([hashes["unet"], hashes["vae"], hashes["text_encoder"]])
    assert (base.name, base.vae) == ("narrow", hashes["vae"])
    assert base.sha256 == hashlib.sha256(joined.encode()).hexdigest()
    # A path relative to the current folder means the same model.
    monkeypatch.chdir(shared())
    assert find_base("narrow", work) == find_base("./narrow", work)
    assert find_base("narrow", work).sha256 == base.sha256


def test_mini_is_known_before_it_is_made(tmp_path):
    base = find_base("mini", Workspace(tmp_path))
    assert (base.sha256, base.vae) == (SHA256, VAE_SHA256)
    assert list(tmp_path.iterdir()) == []


def test_single_file_is_known_by_its_bytes_also_after_it_changed(tmp_path):
    work = workspace(tmp_path / "w")
    file = tmp_path / "Some Model.safetensors"
    for content in (b"first", b"then another"):
        file.write_bytes(content)
        base = find_base(str(file), work)
        assert (base.name, base.sha256) == ("Some Model.safetensors", hashlib.sha256(content).hexdigest())


def test_hash_is_remembered(tmp_path, monkeypatch):
    work = workspace(tmp_path / "w")
    copy = shutil.copytree(narrow(), tmp_path / "copy")
    old = time.time() - 10
    for file in copy.rglob("*.safetensors"):
        os.utime(file, (old, old))
    monkeypatch.setattr("pipeline.models.file_hashes._MIN_AGE_NS", 0)  # a file this young is hashed each time
    before = find_base(str(copy), work)
    monkeypatch.setattr("pipeline.models.file_hashes.file_sha256", lambda path: pytest.fail("hashed again"))
    assert find_base(str(copy), work) == before


def pulled(folder, hub: str, commit: str) -> None:
    """A model as prep models pull leaves it."""
    home = folder / hub.replace("/", "--")
    shutil.copytree(ensure_mini(shared()), home)
    files = {path.relative_to(home).as_posix(): path for path in home.rglob("*") if path.is_file()}
    entries = {name: {"size": path.stat().st_size, "sha256": ""} for name, path in files.items()}
    (home / "prep-model.json").write_text(json.dumps({"name": hub, "revision": commit, "files": entries}))


def test_hub_id_is_a_pulled_model(tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "models"))
    pulled(tmp_path / "models", "some-one/tiny-sd", commit)
    work = workspace(tmp_path / "w")
    base = find_base("some-one/tiny-sd", work)
    assert (base.name, base.revision) == ("some-one/tiny-sd", commit)
    assert base.sha256 == find_base("mini", work).sha256
    assert find_base("some-one/tiny-sd@01234567", work) == base
    with pytest.raises(PrepError) as caught:
        find_base("some-one/tiny-sd@89abcdef", work)
    assert caught.value.wrong == "some-one/tiny-sd was downloaded at the commit 0123456789ab, not 89abcdef."
    assert caught.value.hint == "Download that one: prep models pull some-one/tiny-sd --revision 89abcdef"


def test_hub_id_that_was_not_pulled_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "models"))
    with pytest.raises(PrepError) as caught:
        find_base("some-one/not-here", workspace(tmp_path / "w"))
    assert caught.value.wrong == "The model some-one/not-here is not on this machine."
    assert caught.value.hint.startswith("Get it: prep models pull some-one/not-here")


def test_weights_in_several_files(tmp_path):
    """As large models are kept: an index names the files, whose hashes count in their order."""
    copy = shutil.copytree(narrow(), tmp_path / "copy")
    unet = copy / "unet"
    tensors = load_file(unet / PARTS["unet"])
    (unet / PARTS["unet"]).unlink()
    names = sorted(tensors)
    half = len(names) // 2
    files = {f"diffusion_pytorch_model-0000{k}-of-00002.safetensors": names[half * (k - 1) :][:half] for k in (1, 2)}
    files["diffusion_pytorch_model-00002-of-00002.safetensors"] = names[half:]
    for file, some in files.items():
        save_file({name: tensors[name] for name in some}, unet / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, some in files.items() for name in some}}
    listed = unet / "diffusion_pytorch_model.safetensors.index.json"
    listed.write_text(json.dumps(index))
    work = workspace(tmp_path / "w")
    shared_out = checkpoint(work, str(copy))
    ours, theirs = shared_out.load("unet").state_dict(), checkpoint(work, str(narrow())).load("unet").state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert shared_out.base.sha256 != find_base(str(narrow()), work).sha256
    (unet / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(PrepError, match=r"has no diffusion_pytorch_model-00002-of-00002.safetensors, which its index"):
        find_base(str(copy), work)
    listed.write_text(json.dumps({"weight_map": {"x": "../../other.safetensors"}}))
    with pytest.raises(PrepError, match=r"has no other\.safetensors, which its index lists"):
        find_base(str(copy), work)
    listed.write_text("{")
    with pytest.raises(PrepError, match="is damaged"):
        find_base(str(copy), work)


@pytest.mark.parametrize("text", ["", "nothing", "missing.safetensors", "some/missing.ckpt", "/no/such/model", "a b/c"])
def test_what_names_no_model(tmp_path, text):
    with pytest.raises(PrepError, match=r"[Nn]o base model|no unet/config\.json|is not on this machine"):
        find_base(text, workspace(tmp_path))


def test_folder_that_holds_no_model(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(PrepError, match=r"not a diffusers folder .* no unet/config.json"):
        find_base(str(tmp_path / "images"), workspace(tmp_path / "w"))


def test_folder_with_pickles_only(tmp_path):
    copy = shutil.copytree(narrow(), tmp_path / "copy")
    (copy / "unet" / PARTS["unet"]).rename(copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(PrepError, match=r"has no diffusion_pytorch_model\.safetensors"):
        find_base(str(copy), workspace(tmp_path / "w"))


def test_other_files_are_no_models(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"x")
    with pytest.raises(PrepError, match="is not a model file that prep reads"):
        find_base(str(tmp_path / "model.gguf"), workspace(tmp_path / "w"))
