"""Upscalers: sizes, models from files of both formats, tiles without seams, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipeline.errors import PrepError
from pipeline.workspace import Workspace
from training.sampling import upscalers
from training.sampling.upscalers import LATENT_MODES, find_upscaler, upscale_image, upscale_latents

CPU = torch.device("cpu")


def photo(width=40, height=24):
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([rows * 8, columns * 5, (rows + columns) * 3], axis=-1).astype(np.uint8))


@pytest.fixture
def esrgan(tmp_path):
    """The file of an ESRGAN of scale 2 with random weights, near to doubling pixels."""
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(0)
    network = ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=2)
    path = tmp_path / "2x-random.pth"
    torch.save({"params_ema": network.state_dict()}, path)
    return path


@pytest.mark.parametrize("title", LATENT_MODES)
def test_latents_get_the_size_and_keep_their_level(title):
    latents = torch.full((2, 4, 6, 8), 0.25)
    found = upscale_latents(latents, title, 9, 16)
    assert found.shape == (2, 4, 9, 16) and torch.allclose(found, torch.tensor(0.25))


def test_latent_modes_differ_as_their_names_say():
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    nearest = upscale_latents(latents, "Latent (nearest)", 16, 16)
    assert (nearest[..., ::2, ::2] == latents).all() and (nearest[..., 1::2, 1::2] == latents).all()
    smaller = {title: upscale_latents(latents, title, 4, 4) for title in LATENT_MODES}
    assert (smaller["Latent"] != smaller["Latent (antialiased)"]).any()
    assert (smaller["Latent (bicubic)"] != smaller["Latent"]).any()


def test_pixel_modes_are_pillows_filters():
    image = photo()
    for name in ("None", "Lanczos"):
        found = upscale_image(image, name, 80, 50, CPU)
        assert (np.asarray(found) == np.asarray(image.resize((80, 50), Image.Resampling.LANCZOS))).all()


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_model_enlarges_to_the_exact_size(esrgan, tmp_path, ending):
    path = esrgan
    if ending == ".safetensors":
        path = tmp_path / "2x.safetensors"
        save_file(torch.load(esrgan, weights_only=True)["params_ema"], path)
    name = find_upscaler(str(path), Workspace(tmp_path))
    twice = upscale_image(photo(), name, 80, 48, CPU)
    network = upscalers._load(name, CPU)
    pixels = torch.from_numpy(np.array(photo())).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        direct = network(pixels)[0].permute(1, 2, 0).clamp(0, 1) * 255
    assert np.abs(np.asarray(twice) - direct.numpy()).max() <= 0.51
    assert twice.size == (80, 48) and upscale_image(photo(), name, 100, 60, CPU).size == (100, 60)
    assert upscale_image(photo(), name, 20, 12, CPU).size == (20, 12)


def test_tiles_leave_no_seams(monkeypatch):
    class Doubling:
        scale = 2

        def __call__(self, pixels):
            return torch.nn.functional.interpolate(pixels, scale_factor=2, mode="nearest")

    monkeypatch.setattr(upscalers, "_load", lambda path, device: Doubling())
    wanted = np.asarray(photo(61, 37)).repeat(2, 0).repeat(2, 1)
    monkeypatch.setattr(upscalers, "_TILE", 20)
    found = np.asarray(upscale_image(photo(61, 37), "any.pth", 122, 74, CPU))
    assert (found == wanted).all()


def test_what_is_no_upscaler_is_refused(tmp_path):
    workspace = Workspace(tmp_path)
    assert find_upscaler("latent (nearest-exact)", workspace) == "Latent (nearest-exact)"
    with pytest.raises(PrepError, match="Did you mean 'Lanczos'"):
        find_upscaler("lanzcos", workspace)
    with pytest.raises(PrepError, match="no upscaling model"):
        find_upscaler("missing.pth", workspace)
    (tmp_path / "text.pth").write_text("no weights")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    for name in ("text.pth", "other.safetensors"):
        with pytest.raises(PrepError, match="cannot be read as an upscaling model"):
            upscale_image(photo(), find_upscaler(name, workspace), 80, 48, CPU)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"a": Evil()}, protocol=2))
    with pytest.raises(PrepError, match="cannot be read"):
        upscale_image(photo(), str(path), 80, 48, CPU)
