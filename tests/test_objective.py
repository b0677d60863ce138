"""The objectives against their formulas, written out a second time with numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.errors import PrepError
from training.objective import DDPM, FlowMatch, LossType, ddpm, flow_match
from training.options.objective import ObjectiveOptions

SD1 = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}
KINDS = ["epsilon", "v_prediction", "sample"]
ALL_TIMES = torch.arange(1000)


def alphas() -> np.ndarray:
    """The cumulative products of Stable Diffusion's schedule, in double precision."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return np.cumprod(1 - betas)


def draws(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.standard_normal((5, 4, 3, 3)), random.standard_normal((5, 4, 3, 3)), np.array([0, 1, 400, 998, 999])


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array).float() if array.dtype.kind == "f" else torch.from_numpy(array) for array in arrays]


def of(**options: object) -> DDPM:
    return ddpm(SD1, ObjectiveOptions(**options))


def test_schedule_is_stable_diffusions():
    ours = of().alphas.numpy()
    np.testing.assert_allclose(ours, alphas(), rtol=2e-6)
    assert ours[-1] == pytest.approx(0.0047, abs=5e-5)  # published: the last step keeps this much of the signal
    from diffusers import DDPMScheduler

    np.testing.assert_allclose(ours, DDPMScheduler(**SD1).alphas_cumprod.numpy(), rtol=2e-4)


def test_linear_schedule():
    schedule = {"beta_schedule": "linear", "beta_start": 0.1, "beta_end": 0.3, "num_train_timesteps": 3}
    ours = ddpm(schedule, ObjectiveOptions()).alphas.numpy()
    np.testing.assert_allclose(ours, [0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7], rtol=1e-6)


def test_zero_terminal_schedule_is_algorithm_one():
    """Lin et al., in the paper's own steps; and as diffusers does it."""
    roots = np.sqrt(alphas())
    first, last = roots[0], roots[-1]
    wanted = ((roots - last) * first / (first - last)) ** 2
    asked = of(zero_terminal_snr="on", prediction_type="v_prediction").alphas.numpy()
    found = ddpm(
        SD1 | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}, ObjectiveOptions()
    ).alphas.numpy()
    np.testing.assert_allclose(asked, wanted, atol=1e-7)
    np.testing.assert_array_equal(asked, found)
    assert asked[-1] == 0
    assert asked[0] == pytest.approx(alphas()[0])
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(**SD1 | {"rescale_betas_zero_snr": True}).alphas_cumprod.numpy()
    np.testing.assert_allclose(asked, theirs, rtol=1e-3, atol=1e-6)
    config = SD1 | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    np.testing.assert_allclose(
        ddpm(config, ObjectiveOptions(zero_terminal_snr="off")).alphas.numpy(), alphas(), rtol=2e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_mix_and_target_follow_the_papers(kind):
    clean, noise, time = draws()
    a = alphas()[time][:, None, None, None]
    ours = of(prediction_type=kind)
    np.testing.assert_allclose(
        ours.add_noise(*tensors(clean, noise, time)), np.sqrt(a) * clean + np.sqrt(1 - a) * noise, atol=1e-5
    )
    v = np.sqrt(a) * noise - np.sqrt(1 - a) * clean
    wanted = {"epsilon": noise, "v_prediction": v, "sample": clean}[kind]
    np.testing.assert_allclose(ours.target(*tensors(clean, noise, time)), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_target_is_diffusers_own(kind):
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(**SD1 | {"prediction_type": kind})
    ours = ddpm(SD1 | {"prediction_type": kind}, ObjectiveOptions())
    clean, noise, time = tensors(*draws(1))
    torch.testing.assert_close(ours.add_noise(clean, noise, time), theirs.add_noise(clean, noise, time))
    wanted = noise if kind == "epsilon" else theirs.get_velocity(clean, noise, time)
    torch.testing.assert_close(ours.target(clean, noise, time), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_predictor_has_no_loss_at_any_time(kind):
    """Who knows the clean latent can work the target out of the noisy one, at every time."""
    a = torch.from_numpy(alphas())
    objective = DDPM(a, kind)  # double precision: the first steps divide by a small number
    random = torch.Generator().manual_seed(3)
    clean, noise = (torch.randn(1000, 4, 2, 2, generator=random, dtype=torch.float64) for _ in range(2))
    noisy = objective.add_noise(clean, noise, ALL_TIMES)
    a = a.view(-1, 1, 1, 1)
    epsilon = (noisy - a.sqrt() * clean) / (1 - a).sqrt()
    v = a.sqrt() * epsilon - (1 - a).sqrt() * clean
    perfect = {"epsilon": epsilon, "v_prediction": v, "sample": clean}[kind]
    target = objective.target(clean, noise, ALL_TIMES)
    assert float((perfect - target).abs().max()) < 1e-10
    for measure in (LossType(), LossType("huber"), LossType("smooth_l1", "exponential"), LossType("huber", "constant")):
        loss = DDPM(a.flatten().float(), kind, loss_type=measure).loss(perfect, target.float(), ALL_TIMES)
        assert float(loss.max()) < 1e-10


@pytest.mark.parametrize("zero", ["on", "off"])
def test_min_snr_weights(zero):
    snr = alphas() / (1 - alphas())
    if zero == "on":
        snr = of(zero_terminal_snr="on", prediction_type="v_prediction").alphas.double().numpy()
        snr = snr / (1 - snr)
    wanted = {"v_prediction": np.minimum(snr, 5) / (snr + 1), "sample": np.minimum(snr, 5)}
    if zero == "off":
        wanted["epsilon"] = np.minimum(snr, 5) / snr
    for kind, weights in wanted.items():
        ours = of(prediction_type=kind, min_snr_gamma=5.0, zero_terminal_snr=zero).weight(ALL_TIMES)
        np.testing.assert_allclose(ours.numpy(), weights, rtol=1e-3)
        assert bool(torch.isfinite(ours).all())
    assert (of().weight(ALL_TIMES) == 1).all()


def test_weights_at_times_worked_out_by_hand():
    """Signal shares of 0.9, 0.5 and 0.1: signal-to-noise ratios of 9, 1 and 1/9."""
    table, time = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0, 1, 2])
    wanted = {
        ("epsilon", "min_snr_gamma"): [5 / 9, 1, 1],
        ("v_prediction", "min_snr_gamma"): [5 / 10, 1 / 2, 1 / 10],
        ("sample", "min_snr_gamma"): [5, 1, 1 / 9],
        ("epsilon", "debiased"): [1 / 3, 1, 3],
        ("v_prediction", "debiased"): [1 / 10, 1 / 2, 9 / 10],
        ("sample", "debiased"): [3, 1, 1 / 3],
    }
    for (kind, weighting), weights in wanted.items():
        given = {"min_snr_gamma": 5.0} if weighting == "min_snr_gamma" else {"debiased_estimation": True}
        np.testing.assert_allclose(DDPM(table, kind, **given).weight(time).numpy(), weights, rtol=1e-5)


def test_weights_are_finite_at_pure_noise():
    table = torch.tensor([0.5, 0.0])
    for kind in KINDS:
        assert bool(torch.isfinite(DDPM(table, kind, 5.0).weight(torch.tensor([0, 1]))).all()), kind
    assert float(DDPM(table, "epsilon", 5.0).weight(torch.tensor([1]))) == 1


@pytest.mark.parametrize("kind", ["huber", "smooth_l1"])
@pytest.mark.parametrize("schedule", ["snr", "exponential", "constant"])
def test_robust_losses_follow_their_formulas(kind, schedule):
    found, target, time = draws(2)
    snr = alphas() / (1 - alphas())
    c = {
        "snr": (1 - 0.2) / (1 + snr[time] ** -0.5) ** 2 + 0.2,
        "exponential": np.exp(-(-math.log(0.2) / 1000) * time),
        "constant": np.full(5, 0.2),
    }[schedule][:, None, None, None]
    wanted = 2 * (np.sqrt((found - target) ** 2 + c**2) - c) * (c if kind == "huber" else 1)
    ours = of(loss_type=kind, huber_schedule=schedule, huber_c=0.2).loss(*tensors(found, target, time))
    np.testing.assert_allclose(ours, wanted, rtol=2e-3, atol=1e-6)
    square = of().loss(*tensors(found, target, time))
    np.testing.assert_allclose(square, (found - target) ** 2, rtol=1e-4, atol=1e-6)


def test_robust_losses_are_finite_where_nothing_of_the_image_is_left():
    objective = DDPM(torch.tensor([0.5, 0.0]), "v_prediction", loss_type=LossType("huber"))
    found = objective.loss(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.tensor([1]))
    assert float(found) == pytest.approx(2 * 0.1 * (math.sqrt(1 + 0.01) - 0.1), rel=1e-5)


def test_large_errors_count_less():
    error = torch.tensor([0.01, 10.0]).view(2, 1, 1, 1)
    time = torch.tensor([500, 500])
    squared, huber, smooth = (
        of(loss_type=kind).loss(error, torch.zeros(2, 1, 1, 1), time).flatten() for kind in ("l2", "huber", "smooth_l1")
    )
    assert float(squared[1] / squared[0]) == pytest.approx(1e6, rel=1e-3)
    assert float(huber[1] / huber[0]) < 1e5
    assert float(huber[0]) == pytest.approx(float(squared[0]), rel=0.01)  # small ones as before
    assert float(smooth[0]) > float(huber[0])


def counted(objective: object, times: int, shape: tuple[int, ...] = (4, 8, 8)) -> np.ndarray:
    stream = torch.Generator().manual_seed(0)
    return np.array([float(objective.sample_timesteps(stream, shape)) for _ in range(times)])


def test_every_time_is_drawn():
    counts = np.bincount(counted(DDPM(torch.linspace(0.9, 0.1, 8)), 4000).astype(int), minlength=8)
    assert len(counts) == 8
    assert counts.min() > 400
    assert DDPM(torch.ones(8)).sample_timesteps(torch.Generator(), (4, 8, 8)).shape == (1,)


def test_times_stay_within_their_range():
    found = counted(of(min_timestep=200, max_timestep=204), 400)
    assert set(found) == {200, 201, 202, 203}
    flow = counted(flow_match({}, ObjectiveOptions(min_timestep=200, max_timestep=300)), 400)
    assert 200 < flow.min() < 215
    assert 285 < flow.max() < 300


@pytest.mark.parametrize(
    ("objective", "wanted"),
    [
        (DDPM(torch.linspace(0.9, 0.1, 1000)), [562, 687, 812, 937]),  # half of it is noise from time 500 on
        (DDPM(torch.linspace(0.9, 0.1, 1000), timestep_range=(200, 900)), [550, 650, 750, 850]),
        (DDPM(torch.linspace(0.9, 0.1, 1000), timestep_range=(200, 400)), [225, 275, 325, 375]),
        (DDPM(torch.linspace(0.9, 0.1, 8)), [4, 5, 6, 7]),
        (FlowMatch(), [562.5, 687.5, 812.5, 937.5]),
        (FlowMatch(timestep_range=(600, 1000)), [650, 750, 850, 950]),
        (FlowMatch(timestep_range=(0, 500)), [62.5, 187.5, 312.5, 437.5]),
    ],
    ids=["all", "to 900", "hardly noisy", "eight in all", "flow", "flow, noisy", "flow, hardly noisy"],
)
def test_spread_times_are_the_middles_of_equal_parts_where_noise_outweighs_the_image(objective, wanted):
    assert objective.validation_timesteps(4).tolist() == wanted


def test_debiased_weights_stop_where_almost_nothing_is_noise():
    """A signal share of 0.9999: a ratio of 9999, of which 1000 count."""
    table, time = torch.tensor([0.9999]), torch.tensor([0])
    assert float(DDPM(table, "epsilon", debiased_estimation=True).weight(time)) == pytest.approx(1000**-0.5)
    assert float(DDPM(table, "sample", debiased_estimation=True).weight(time)) == pytest.approx(1000**0.5)


def test_robust_losses_of_flow_matching():
    """Noise over signal is s / (1 - s); at 250 a third, at 500 one."""
    time = torch.tensor([250.0, 500.0])
    objective = flow_match({}, ObjectiveOptions(loss_type="huber", huber_c=0.2))
    found = objective.loss(torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1), time).flatten().tolist()
    bends = [0.8 / (1 + 1 / 3) ** 2 + 0.2, 0.8 / 4 + 0.2]
    assert found == pytest.approx([2 * c * (math.sqrt(1 + c * c) - c) for c in bends], rel=1e-5)
    other = flow_match({}, ObjectiveOptions(loss_type="huber", huber_c=0.2, huber_schedule="constant"))
    assert float(other.loss(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), time[:1])) == pytest.approx(
        2 * 0.2 * (math.sqrt(1.04) - 0.2), rel=1e-5
    )


def test_base_decides_the_prediction_unless_told():
    assert ddpm(SD1 | {"prediction_type": "v_prediction"}, ObjectiveOptions()).prediction == "v_prediction"
    assert of(prediction_type="v_prediction").prediction == "v_prediction"
    assert ddpm(SD1 | {"prediction_type": "sample"}, ObjectiveOptions()).prediction == "sample"


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"beta_schedule": "squaredcos_cap_v2"}, {}, "noise schedule"),
        ({"trained_betas": [0.1]}, {}, "noise schedule"),
        ({"prediction_type": "flow"}, {}, "predicts 'flow'"),
        ({"rescale_betas_zero_snr": True}, {}, "pure noise, from which epsilon prediction learns nothing"),
        ({}, {"zero_terminal_snr": "on"}, "pure noise, from which epsilon prediction learns nothing"),
        (
            {},
            {"timestep_sampling": "mode"},
            "timestep_sampling has no effect: the base model is not trained by flow matching",
        ),
        ({}, {"flow_shift": 3.0, "weighting_scheme": "cosmap"}, "flow_shift and weighting_scheme have no effect"),
    ],
)
def test_what_is_not_trained_is_said(change, options, said):
    with pytest.raises(PrepError, match=said):
        ddpm(SD1 | change, ObjectiveOptions(**options))


def test_flow_mixes_along_a_straight_line():
    clean, noise, _ = draws()
    time = np.array([0.0, 1.0, 250.0, 999.0, 1000.0])
    s = (time / 1000)[:, None, None, None]
    ours = FlowMatch()
    np.testing.assert_allclose(ours.add_noise(*tensors(clean, noise, time)), (1 - s) * clean + s * noise, atol=1e-6)
    np.testing.assert_allclose(ours.target(*tensors(clean, noise, time)), noise - clean, atol=1e-6)
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    some = scheduler.timesteps[[0, 10, 500, 990, 999]]
    theirs = scheduler.scale_noise(*tensors(clean), some, *tensors(noise))
    torch.testing.assert_close(ours.add_noise(*tensors(clean, noise), some), theirs, atol=1e-5, rtol=1e-5)


def test_a_perfect_flow_predictor_has_no_loss_at_any_time():
    random = torch.Generator().manual_seed(3)
    clean, noise = (torch.randn(1000, 4, 2, 2, generator=random) for _ in range(2))
    time = torch.linspace(1, 1000, 1000)
    noisy = FlowMatch().add_noise(clean, noise, time)
    share = (time / 1000).view(-1, 1, 1, 1)
    perfect = (noisy - clean) / share  # from the straight line's own equation
    for kind in ("l2", "huber", "smooth_l1"):
        objective = flow_match({}, ObjectiveOptions(loss_type=kind))
        assert float(objective.loss(perfect, objective.target(clean, noise, time), time).max()) < 1e-4
        assert bool(torch.isfinite(objective.weight(time)).all())


def test_flow_densities():
    """Means and quartiles of the densities that the paper names, drawn 4000 times."""
    uniform = counted(flow_match({}, ObjectiveOptions(timestep_sampling="uniform")), 4000) / 1000
    np.testing.assert_allclose(np.quantile(uniform, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)
    bell = counted(flow_match({}, ObjectiveOptions()), 4000) / 1000
    quartile = 1 / (1 + math.exp(0.6745))  # of a normal distribution, through the logistic function
    np.testing.assert_allclose(np.quantile(bell, [0.25, 0.5, 0.75]), [quartile, 0.5, 1 - quartile], atol=0.03)
    moved = counted(flow_match({}, ObjectiveOptions(logit_mean=1.0, logit_std=0.1)), 4000) / 1000
    assert np.median(moved) == pytest.approx(1 / (1 + math.exp(-1)), abs=0.01)
    assert moved.std() < 0.03
    u = (np.arange(4000) + 0.5) / 4000
    for options, scale in (({}, 1.29), ({"mode_scale": 0.4}, 0.4)):
        mode = counted(flow_match({}, ObjectiveOptions(timestep_sampling="mode", **options)), 4000) / 1000
        wanted = 1 - u - scale * (np.cos(np.pi * u / 2) ** 2 - 1 + u)
        np.testing.assert_allclose(
            np.quantile(mode, [0.1, 0.25, 0.5, 0.75]), np.quantile(wanted, [0.1, 0.25, 0.5, 0.75]), atol=0.03
        )


def test_shift_is_the_papers_and_the_bases_own():
    plain = counted(flow_match({}, ObjectiveOptions()), 200) / 1000
    shifted = counted(flow_match({"shift": 3.0}, ObjectiveOptions()), 200) / 1000
    np.testing.assert_allclose(shifted, 3 * plain / (1 + 2 * plain), rtol=1e-4)
    given = counted(flow_match({"shift": 3.0}, ObjectiveOptions(flow_shift=1.0)), 200) / 1000
    np.testing.assert_allclose(given, plain, rtol=1e-5)


def test_shift_by_size_grows_with_the_square_root_of_the_pixels():
    objective = flow_match({"shift": 3.0}, ObjectiveOptions(flow_shift_by_size=True))
    plain = counted(flow_match({}, ObjectiveOptions()), 200) / 1000
    at_1024 = counted(objective, 200, (16, 128, 128)) / 1000
    np.testing.assert_allclose(at_1024, 3 * plain / (1 + 2 * plain), rtol=1e-4)
    at_512 = counted(objective, 200, (16, 64, 64)) / 1000
    np.testing.assert_allclose(at_512, 1.5 * plain / (1 + 0.5 * plain), rtol=1e-4)


def test_flow_weights_are_those_of_diffusers():
    from diffusers.training_utils import compute_loss_weighting_for_sd3

    time = torch.tensor([3.0, 250.0, 1000.0])
    for kind in ("none", "sigma_sqrt", "cosmap"):
        theirs = compute_loss_weighting_for_sd3(kind, time / 1000)
        torch.testing.assert_close(flow_match({}, ObjectiveOptions(weighting_scheme=kind)).weight(time), theirs)


@pytest.mark.parametrize(
    ("schedule", "options", "said"),
    [
        ({}, {"min_snr_gamma": 5.0}, "min_snr_gamma has no effect: the base model is trained by flow matching"),
        ({}, {"prediction_type": "epsilon"}, "prediction_type has no effect"),
        ({"use_dynamic_shifting": True}, {}, "shift of the base model depends on the image size"),
    ],
)
def test_what_a_flow_matching_base_has_no_use_for(schedule, options, said):
    with pytest.raises(PrepError, match=said):
        flow_match(schedule, ObjectiveOptions(**options))
