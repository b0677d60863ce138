"""Noise by seed: batches change nothing, other sources, variations, other sizes, Brownian motion."""

from __future__ import annotations

import pytest
import torch

from training.sampling.noise import ImageNoise, NoiseDraws, Seeds, image_seeds, interpolate, paste
from training.sampling.philox import PhiloxGenerator

CPU = torch.device("cpu")
SHAPE = (4, 8, 6)
# torch.randn((3, 4), device="cuda") for seed 0, as WebUI's documentation of its emulation gives it
CUDA = [
    [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
    [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
    [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
]


def noise(*seeds, **settings):
    return ImageNoise(SHAPE, [Seeds(seed) for seed in seeds], NoiseDraws(**{"source": "cpu"} | settings), CPU)


def test_philox_gives_the_numbers_of_an_nvidia_gpu():
    torch.testing.assert_close(PhiloxGenerator(0).draw((3, 4)), torch.tensor(CUDA), atol=1e-6, rtol=0)
    generator = PhiloxGenerator(2**40 + 5)
    first, second = generator.draw((50_000,)), generator.draw((50_000,))
    assert (first != second).any() and (PhiloxGenerator(5).draw((50_000,)) != first).any()
    for numbers in (first, second):
        assert abs(float(numbers.mean())) < 0.02 and abs(float(numbers.std()) - 1) < 0.02


@pytest.mark.parametrize("source", ["cpu", "gpu", "nv"])
def test_an_image_does_not_depend_on_its_batch(source):
    together, alone = noise(5, 6, source=source), noise(6, source=source)
    for draw in (ImageNoise.first, ImageNoise.next, ImageNoise.next):
        assert (draw(together)[1] == draw(alone)[0]).all()
    ends = (0.03, 14.6)
    both, one = noise(5, 6, source=source).brownian(*ends), noise(6, source=source).brownian(*ends)
    assert (both(14.6, 3.0)[1] == one(14.6, 3.0)[0]).all()


def test_noise_is_that_of_pytorchs_generators():
    drawn = noise(9)
    generator = torch.Generator().manual_seed(9)
    assert (drawn.first()[0] == torch.randn(SHAPE, generator=generator)).all()
    assert (drawn.next()[0] == torch.randn(SHAPE, generator=generator)).all()


def test_a_seed_delta_counts_after_the_start_noise():
    changed, plain, other = noise(9, seed_delta=31337), noise(9), noise(9 + 31337)
    start = other.first()
    assert (changed.first() == plain.first()).all() and (changed.next() == start).all()


def test_seeds_count_up_and_with_a_variation_only_those_of_the_variation():
    assert image_seeds(Seeds(5, 50), 2, 0.0) == [Seeds(5, 50), Seeds(6, 51)]
    assert image_seeds(Seeds(5, 50), 2, 0.1) == [Seeds(5, 50), Seeds(5, 51)]


def test_a_variation_lies_between_its_two_noises():
    first, second = noise(1).first()[0], noise(2).first()[0]
    assert (interpolate(first, second, 0.0) - first).abs().max() < 1e-5
    assert (interpolate(first, second, 1.0) - second).abs().max() < 1e-5
    made = ImageNoise(SHAPE, [Seeds(1, 2)], NoiseDraws(source="cpu", variation_strength=0.3), CPU).first()[0]
    torch.testing.assert_close(made, interpolate(first, second, 0.3))
    # On the sphere of each column: orthogonal columns of equal length keep that length.
    a, b = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[0.0], [1.0]]])
    torch.testing.assert_close(interpolate(a, b, 0.5), torch.full((1, 2, 1), 0.5**0.5))
    # Of nearly equal noises WebUI takes the shares the other way round.
    torch.testing.assert_close(interpolate(first, 1.001 * first, 0.25), first * 0.25 + 1.001 * first * 0.75)


def test_noise_of_another_size_lies_in_the_middle():
    into = torch.zeros(1, 4, 5)
    small = paste(torch.ones(1, 2, 2), into)
    assert small[0].nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]] and (into == 0).all()
    large = torch.arange(36.0).view(1, 6, 6)
    assert (paste(large, torch.zeros(1, 4, 4)) == large[:, 1:5, 1:5]).all()
    both = paste(torch.ones(1, 2, 8), torch.zeros(1, 4, 4))
    assert both[0].sum(1).tolist() == [0, 4, 4, 0]
    resized = noise(3, resize_from=(4, 4)).first()[0]
    inner = torch.randn((4, 4, 4), generator=torch.Generator().manual_seed(3))
    assert (resized[:, 2:6, 1:5] == inner).all()
    assert (resized[:, :2] == noise(3).first()[0][:, :2]).all()
    assert (noise(3, resize_from=SHAPE[1:]).first() == noise(3).first()).all()


@pytest.mark.parametrize("source", ["cpu", "nv"])
def test_brownian_motion_adds_up_whatever_the_steps(source):
    move = noise(4, source=source).brownian(0.03, 14.6)
    whole = move(10.0, 1.0) * 3
    parts = move(10.0, 4.0) * 6**0.5 + move(4.0, 1.0) * 3**0.5
    torch.testing.assert_close(parts, whole, atol=1e-2, rtol=0)  # its times are rounded to 1e-6
    assert float(move(14.6, 0.03).std()) == pytest.approx(1, abs=0.15)


def test_brownian_motion_of_an_emulated_gpu_is_not_that_of_a_cpu():
    assert (noise(4, source="nv").brownian(0.1, 9.0)(9.0, 1.0) != noise(4).brownian(0.1, 9.0)(9.0, 1.0)).any()
