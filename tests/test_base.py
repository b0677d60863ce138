"""Finding the base model: mini, folder, single file, hub id; and everything that is none of these."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from pipeline.errors import PrepError
from pipeline.workspace import Workspace
from tests.training_set import narrow, shared, workspace
from training.base import PARTS, find_base
from training.mini import SHA256, VAE_SHA256, ensure_mini


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
    before = find_base(str(narrow()), work)
    monkeypatch.setattr("training.base.file_sha256", lambda path: pytest.fail("hashed again"))
    assert find_base(str(narrow()), work) == before


def test_damaged_memory_of_hashes_is_made_again(tmp_path):
    work = workspace(tmp_path / "w")
    before = find_base(str(narrow()), work)
    for content in (b"{broken", b"[]", b'{"x": 1}'):
        (work.cache / "hashes.json").write_bytes(content)
        assert find_base(str(narrow()), work) == before


def hub_cache(folder, repository: str, commit: str) -> None:
    """A model in the hub's cache, laid out as huggingface_hub leaves it."""
    place = folder / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copytree(ensure_mini(shared()), place / "snapshots" / commit)


def test_hub_id_is_taken_from_the_local_cache(tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hub_cache(tmp_path, "some-one/tiny-sd", commit)
    work = workspace(tmp_path / "w")
    base = find_base("some-one/tiny-sd", work)
    assert (base.name, base.revision) == ("some-one/tiny-sd", commit)
    assert base.sha256 == find_base("mini", work).sha256


def test_hub_id_without_network_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PrepError) as caught:
        find_base("some-one/not-here", workspace(tmp_path / "w"))
    assert "some-one/not-here is not on this machine" in caught.value.wrong
    assert "hf download some-one/not-here" in caught.value.mend
    assert "--base FOLDER" in caught.value.mend


@pytest.mark.parametrize("text", ["", "nothing", "missing.safetensors", "some/missing.ckpt", "/no/such/model", "a b/c"])
def test_what_names_no_model(tmp_path, text):
    with pytest.raises(PrepError, match=r"no base model|no unet/config\.json"):
        find_base(text, workspace(tmp_path))


def test_folder_that_holds_no_model(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(PrepError, match=r"not a diffusers folder .* no unet/config.json"):
        find_base(str(tmp_path / "pictures"), workspace(tmp_path / "w"))


def test_folder_with_pickles_only(tmp_path):
    copy = shutil.copytree(narrow(), tmp_path / "copy")
    (copy / "unet" / PARTS["unet"]).rename(copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(PrepError, match=r"has no diffusion_pytorch_model\.safetensors"):
        find_base(str(copy), workspace(tmp_path / "w"))


def test_other_files_are_no_models(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"x")
    with pytest.raises(PrepError, match="is not a base model that prep reads"):
        find_base(str(tmp_path / "model.gguf"), workspace(tmp_path / "w"))
