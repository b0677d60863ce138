"""The latent cache: right content, computed once, and never trusted blindly."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline.errors import PrepError
from pipeline.record import CropBox
from pipeline.workspace import Workspace
from tests.training_set import checkpoint, manifest, placed, sample, workspace
from training.batch import SourceImage
from training.data.dataset import read_samples
from training.data.latent_cache import _BATCH_PIXELS, LatentCache, LatentKey, read_pixels
from training.models.sd1 import SD1


@pytest.fixture
def ready(tmp_path):
    """A latent cache, its samples, and a VAE that counts how often it is loaded."""
    work = workspace(tmp_path)
    samples = read_samples(manifest(work, [placed(work, 1), placed(work, 2, size=(64, 128)), placed(work, 3)]))
    model = checkpoint(work)
    loads = []

    def load_vae():
        loads.append(1)
        return model.load("vae")

    return LatentCache(work, SD1(), model.base.vae), [LatentKey(sample) for sample in samples], load_vae, loads


def nothing(done, total):
    """Report to nobody."""


def test_entries_are_what_the_vae_says(ready):
    latents, samples, load_vae, _ = ready
    reported = []
    latents.prepare(samples, load_vae, lambda done, total: reported.append((done, total)))
    assert reported == [(1, 3), (2, 3), (3, 3)]
    vae = load_vae()
    for view in samples:
        sample = view.sample
        with Image.open(latents.workspace.path(sample.path)) as image:
            pixels = torch.tensor(list(image.tobytes()), dtype=torch.float32)
        pixels = (pixels.reshape(sample.height, sample.width, 3).permute(2, 0, 1)[None] / 255) * 2 - 1
        with torch.no_grad():
            wanted = vae.encode(pixels).latent_dist
        mean, std = latents.read(view)
        torch.testing.assert_close(mean, wanted.mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(std, wanted.std, atol=1e-5, rtol=1e-4)
        assert mean.shape == (1, 4, sample.height // 8, sample.width // 8)


def test_second_time_needs_no_vae(ready):
    latents, samples, load_vae, loads = ready
    latents.prepare(samples, load_vae, nothing)
    latents.prepare(samples, load_vae, nothing)
    assert len(loads) == 1


def test_same_image_twice_is_encoded_once(ready):
    latents, samples, load_vae, _ = ready
    reported = []
    twin = LatentKey(dataclasses.replace(samples[0].sample, id="another", caption="another"))
    latents.prepare([samples[0], twin], load_vae, lambda done, total: reported.append(total))
    assert reported == [1]
    assert latents.path(samples[0]) == latents.path(twin)


def damages(whole: dict[str, torch.Tensor]) -> dict[str, object]:
    nan = whole["mean"].clone()
    nan[0, 0, 0, 0] = float("nan")
    return {
        "empty": b"",
        "cut off": 200,
        "no tensors": b"{}",
        "not finite": {"mean": nan, "std": whole["std"]},
        "another shape": {"mean": whole["mean"][:, :, 1:], "std": whole["std"][:, :, 1:]},
        "one missing": {"mean": whole["mean"]},
    }


@pytest.mark.parametrize("damage", ["empty", "cut off", "no tensors", "not finite", "another shape", "one missing"])
def test_damaged_entry_is_made_again(ready, damage):
    latents, samples, load_vae, loads = ready
    latents.prepare(samples, load_vae, nothing)
    path = latents.path(samples[0])
    before, whole = path.read_bytes(), load_file(path)
    match damages({name: value.clone() for name, value in whole.items()})[damage]:
        case bytes(content):
            path.write_bytes(content)
        case int(size):
            path.write_bytes(before[:size])
        case tensors:
            save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    assert latents.read(samples[0]) is None
    reported = []
    latents.prepare(samples, load_vae, lambda done, total: reported.append(total))
    assert reported == [1]
    assert len(loads) == 2
    assert path.read_bytes() == before


def test_another_vae_has_other_entries(ready):
    latents, samples, *_ = ready
    assert latents.path(samples[0]) != dataclasses.replace(latents, vae="0" * 64).path(samples[0])


def test_latents_that_are_not_finite_name_the_record(ready):
    latents, samples, load_vae, _ = ready
    broken = load_vae()
    broken.encoder.conv_in.bias.data.fill_(float("nan"))
    with pytest.raises(PrepError, match=f"{samples[0].sample.id}.* is not finite"):
        latents.prepare(samples, lambda: broken, nothing)
    assert not list((latents.workspace.cache / "latents").rglob("*.safetensors"))


def test_mirrored_views_have_entries_of_their_own(ready):
    latents, samples, load_vae, _ = ready
    view = samples[1]
    latents.prepare([view, LatentKey(view.sample, flipped=True)], load_vae, nothing)
    mean, _ = latents.read(LatentKey(view.sample, flipped=True))
    with torch.no_grad():
        wanted = load_vae().encode(read_pixels(view.sample, latents.workspace).flip(3)).latent_dist.mean
    torch.testing.assert_close(mean, wanted, atol=1e-5, rtol=1e-4)
    assert not torch.equal(mean, latents.read(view)[0])


def test_several_at_once_are_the_same_as_one_by_one(ready, monkeypatch):
    latents, samples, load_vae, _ = ready
    latents.prepare(samples, load_vae, nothing)
    single = [latents.read(view) for view in samples]
    for view in samples:
        latents.path(view).unlink()
    monkeypatch.setitem(_BATCH_PIXELS, "cpu", 2 * 64 * 64)
    reported = []
    latents.prepare(samples, load_vae, lambda done, total: reported.append((done, total)))
    assert reported == [(2, 3), (3, 3)]  # the two of one size go together
    for view, (mean, std) in zip(samples, single, strict=True):
        torch.testing.assert_close(latents.read(view)[0], mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(latents.read(view)[1], std, atol=1e-5, rtol=1e-4)


def test_damage_is_told(ready, caplog):
    latents, samples, load_vae, _ = ready
    latents.prepare(samples, load_vae, nothing)
    assert not caplog.messages
    latents.path(samples[0]).write_bytes(b"")
    latents.prepare(samples, load_vae, nothing)
    assert caplog.messages == ["Recomputing 1 damaged entries of the latent cache"]


@pytest.fixture
def at(tmp_path):
    """A function that makes the sample of an image file in a workspace."""

    def made(name, width, height):
        return sample(1, path=name, width=width, height=height), Workspace(tmp_path)

    return made


def test_images_that_are_gone_or_changed(tmp_path, at):
    with pytest.raises(PrepError, match="is missing"):
        read_pixels(*at("none.png", 8, 8))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(PrepError, match="cannot be read"):
        read_pixels(*at("text.png", 8, 8))
    Image.new("RGB", (16, 8)).save(tmp_path / "wide.png")
    with pytest.raises(PrepError, match="no longer 8 x 16 pixels"):
        read_pixels(*at("wide.png", 8, 16))
    whole = (tmp_path / "wide.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:40])
    with pytest.raises(PrepError, match="cannot be read"):
        read_pixels(*at("cut.png", 16, 8))


def test_pixels_run_from_minus_one_to_one(tmp_path, at):
    image = Image.new("RGB", (2, 1), (0, 255, 51))
    image.putpixel((1, 0), (255, 0, 102))
    image.save(tmp_path / "p.png")
    wanted = torch.tensor([[[-1.0, 1.0]], [[1.0, -1.0]], [[-0.6, -0.2]]])[None]
    torch.testing.assert_close(read_pixels(*at("p.png", 2, 1)), wanted)


def test_an_image_of_others_is_turned_upright_and_put_on_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    image.save(tmp_path / "theirs.png", exif=exif)
    digest = hashlib.sha256((tmp_path / "theirs.png").read_bytes()).hexdigest()
    crop = CropBox(1, 2, 1, 2, 0, 0, 1, 2, "#ffffff", "whole", 1.0, 0.0)
    theirs = sample(
        1, path="", pixel_sha256=digest, width=1, height=2, source=SourceImage("theirs.png", crop, None, digest)
    )
    found = read_pixels(theirs, Workspace(tmp_path))
    assert found[0, :, :, 0].T.tolist() == [[1.0, 1.0, 1.0], [1.0, -1.0, -1.0]]
    image.rotate(180).save(tmp_path / "theirs.png", exif=exif)
    with pytest.raises(PrepError, match="was changed during training"):
        read_pixels(theirs, Workspace(tmp_path))
