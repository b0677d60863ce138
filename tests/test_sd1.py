"""Stable Diffusion 1.x: text, latents and the U-Net's call."""

from __future__ import annotations

import pytest
import torch

from tests.training_set import checkpoint, workspace
from training.models.family import TextSettings
from training.models.sd1 import SD1
from training.options.objective import ObjectiveOptions

FAMILY = SD1()
SIZE = torch.zeros(2, 6)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(workspace(tmp_path_factory.mktemp("w")))


def test_text_is_clips_last_layer_of_the_padded_tokens(model):
    tokenizers, encoder = model.tokenizers(), model.load("text_encoder")
    tokenizer = tokenizers["text_encoder"]
    with torch.no_grad():
        ours = FAMILY.encode_text(tokenizers, {"text_encoder": encoder}, ["smith, apron", ""], TextSettings())["text"]
        # 29502 and so on are CLIP's numbers of the words; the rest is the end token, as padding too.
        smith = torch.tensor([[49406, *tokenizer("smith, apron").input_ids[1:-1], *[49407] * 73]])
        nothing = torch.tensor([[49406, *[49407] * 76]])
        wanted = [encoder(tokens).last_hidden_state[0] for tokens in (smith, nothing)]
    assert ours.shape == (2, 77, 64)
    torch.testing.assert_close(ours, torch.stack(wanted))


@pytest.mark.parametrize(("words", "long"), [(75, False), (76, True), (300, True)])
def test_token_limit(model, words, long):
    assert FAMILY.too_long(model.tokenizers(), " ".join(["man"] * words), TextSettings()) is long


def test_what_is_beyond_the_limit_has_no_effect(model):
    tokenizers, encoder = model.tokenizers(), model.load("text_encoder")
    start = " ".join(["man"] * 75)
    with torch.no_grad():
        texts = FAMILY.encode_text(tokenizers, {"text_encoder": encoder}, [start, f"{start} in a hat"], TextSettings())[
            "text"
        ]
    assert torch.equal(texts[0], texts[1])


def test_latents_are_scaled_by_the_configuration(model):
    mean, std = FAMILY.normalizer(model)((torch.tensor([1.0]), torch.tensor([0.5])))
    assert (float(mean), float(std)) == (2.0, 1.0)  # mini's scaling_factor is 2


def test_unet_is_told_noise_time_and_text(model):
    unet = model.load("unet")
    noisy, text = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 64)
    time = torch.tensor([1, 900])
    with torch.no_grad():
        ours = FAMILY.forward(unet, noisy, time, {"text": text}, SIZE)
        wanted = unet(sample=noisy, timestep=time, encoder_hidden_states=text).sample
        assert torch.equal(ours, wanted)
        for other in ((noisy + 1, time, text), (noisy, time.flip(0), text), (noisy, time, text.flip(0))):
            assert not torch.allclose(FAMILY.forward(unet, other[0], other[1], {"text": other[2]}, SIZE), wanted)


def test_objective_is_the_bases_own(model):
    objective = FAMILY.objective(model, ObjectiveOptions(min_snr_gamma=5.0))
    assert (objective.prediction, objective.min_snr_gamma, len(objective.alphas)) == ("epsilon", 5.0, 1000)
