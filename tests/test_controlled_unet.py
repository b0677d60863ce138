"""A controlled U-Net: diffusers' own results, weights, modes, start and end, and nothing left where nothing acts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.control_set import control_net, unet
from training.sampling.control.controlled_unet import Control, ControlledUnet, residual_factors
from training.sampling.control.request import ControlRequest

BOTH = [True, False]


def inputs(count=2):
    random = torch.Generator().manual_seed(3)
    noisy, text = torch.randn(2, 4, 8, 8, generator=random), torch.randn(2, 7, 12, generator=random)
    return noisy[:count], torch.full((count,), 400.5), text[:count]


def control(seed=1, **options):
    image = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    return Control(ControlRequest(kind="canny", image="", **options), control_net(unet(), seed), image)


def called(controls, share=0.5, rows=BOTH, hires=False):
    controlled = ControlledUnet(unet(), controls)
    controlled.at(share, rows, hires=hires)
    noisy, timesteps, text = inputs(len(rows))
    with torch.inference_mode():
        return controlled(noisy, timesteps, encoder_hidden_states=text, return_dict=False)[0]


def plain():
    noisy, timesteps, text = inputs()
    with torch.inference_mode():
        return unet()(noisy, timesteps, encoder_hidden_states=text, return_dict=False)[0]


def test_it_is_diffusers_sum_of_several_control_models():
    from diffusers import MultiControlNetModel

    controls = [control(1, weight=0.7), control(2, weight=1.3)]
    noisy, timesteps, text = inputs()
    hints = [
        torch.from_numpy(one.image).permute(2, 0, 1)[None].float().div(255).expand(2, -1, -1, -1) for one in controls
    ]
    both = MultiControlNetModel([one.model for one in controls])
    with torch.inference_mode():
        down, middle = both(noisy, timesteps, text, hints, [0.7, 1.3], return_dict=False)
        wanted = unet()(
            noisy, timesteps, text, down_block_additional_residuals=down, mid_block_additional_residual=middle,
            return_dict=False,
        )[0]  # fmt: skip
    torch.testing.assert_close(called(controls), wanted)
    assert (wanted != plain()).any()


def test_without_weight_or_outside_its_steps_nothing_changes():
    assert torch.equal(called([]), plain())
    assert torch.equal(called([control(weight=0.0)]), plain())
    limited = [control(start=0.2, end=0.6)]
    assert torch.equal(called(limited, share=0.1), plain()) and torch.equal(called(limited, share=0.65), plain())
    for share in (0.2, 0.6):  # both ends count
        assert (called(limited, share=share) != plain()).any()


def test_modes_weigh_the_levels_and_the_negative_prompt():
    balanced, prompt, strong = (called([control(mode=mode)]) for mode in ("balanced", "prompt", "control"))
    assert (balanced != prompt).any()
    assert torch.allclose(strong[0], prompt[0], atol=1e-6)  # the image with the prompt
    assert torch.allclose(strong[1], plain()[1], atol=1e-6)  # the one with the negative prompt
    assert torch.equal(called([control()], hires=True), prompt)


def test_factors_of_the_levels():
    factors = residual_factors(13, soft=True)
    assert (factors[0], factors[11], factors[12]) == pytest.approx((0.0994, 0.825, 1.0), abs=1e-4)
    assert residual_factors(13, soft=False) == [1.0] * 13


def test_an_image_does_not_depend_on_its_batch():
    whole = called([control()])
    torch.testing.assert_close(called([control()], rows=[True])[0], whole[0], atol=1e-5, rtol=1e-5)


def test_a_map_follows_the_size_of_the_image():
    one = control()
    assert one.map(torch.zeros(1, 4, 8, 8)).shape == (1, 3, 32, 32)
    assert one.map(torch.zeros(1, 4, 16, 12)).shape == (1, 3, 64, 48)
    assert float(one.map(torch.zeros(1, 4, 8, 8)).max()) <= 1


def test_it_stands_in_for_the_unet_of_a_family():
    from training.models.sd1 import SD1

    controlled = ControlledUnet(unet(), [control()])
    controlled.at(0.0, BOTH)
    noisy, timesteps, text = inputs()
    found = SD1().forward(controlled, noisy, timesteps, {"text": text}, torch.zeros(2, 6))
    torch.testing.assert_close(found.detach(), called([control()], share=0.0))


def test_stable_diffusion_xl_passes_its_sizes_and_pooled_text_on():
    from training.models.sdxl import SDXL

    xl = unet(addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=24 + 6)
    one = control()
    controlled = ControlledUnet(xl, [Control(one.request, control_net(xl), one.image)])
    noisy, timesteps, text = inputs()
    found = []
    for pooled, side in ((0.0, 64.0), (1.0, 64.0), (0.0, 32.0)):
        condition = {"text": text, "pooled": torch.full((2, 6), pooled)}
        controlled.at(0.0, BOTH)
        with torch.inference_mode():
            found.append(SDXL().forward(controlled, noisy, timesteps, condition, torch.full((2, 6), side)))
    assert (found[0] != found[1]).any() and (found[0] != found[2]).any()
