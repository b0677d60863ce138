"""The loop: its loss by hand, overfitting, order, and what it does when a loss is not finite."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pytest
import torch
import torch.utils._python_dispatch

from pipeline.errors import PrepError
from tests.adapter_set import inject
from tests.toy_job import job
from tests.training_options import train_options
from tests.training_set import checkpoint, sample, workspace
from training.batch import SampleRef
from training.data.sampler import draw_noise
from training.distributed import DistributedContext
from training.methods.adapters import parameters
from training.models.sd1 import SD1
from training.optim.train_state import make_train_state
from training.trainer import count_steps, image_losses, make_batch, train


def run(made, *watchers, done=0):
    """Train a job; its steps."""
    steps = []
    learner = make_train_state(made.param_groups, made.config.optimizer, DistributedContext())
    train(made, learner, done, [lambda step: bool(steps.append(step)), *watchers])
    return steps


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("min_snr_gamma", [0.0, 5.0])
def test_loss_is_the_published_formula(prediction, min_snr_gamma):
    samples = [sample(1), sample(2, reg=True, subject="", caption="man"), sample(3)]
    made = job(
        samples, {"prediction_type": prediction}, min_snr_gamma=min_snr_gamma, prior_loss_weight=0.3, noise_offset=0.1
    )
    batch = [SampleRef(samples[0], 4), SampleRef(samples[1], 0), SampleRef(samples[2], 1)]
    error, weight = image_losses(made, make_batch(made, batch))

    alphas = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    for k, draw in enumerate(batch):
        mean, std = (x.numpy().astype(float) for x in made.latent(draw))
        luck = draw_noise(draw, made.objective, mean.shape[1:], 42, made.config.objective)
        noise, time = luck.noise.numpy().astype(float), int(luck.timestep)
        clean = mean + std * luck.posterior.numpy()
        a = alphas[time]
        noisy = np.sqrt(a) * clean + np.sqrt(1 - a) * noise
        predicted = 0.5 * noisy + len(draw.image.caption) / 100 + time / 1000
        target = noise if prediction == "epsilon" else np.sqrt(a) * noise - np.sqrt(1 - a) * clean
        snr = a / (1 - a)
        wanted = 1.0 if not min_snr_gamma else min(snr, min_snr_gamma) / (snr if prediction == "epsilon" else snr + 1)
        wanted *= 0.3 if draw.image.reg else 1.0
        assert float(error[k].detach()) == pytest.approx(((predicted - target) ** 2).mean(), rel=1e-4)
        assert float(weight[k]) == pytest.approx(wanted, rel=1e-3)


def test_first_step_moves_against_the_weighted_gradient():
    """Plain gradient descent in place of AdamW shows the loss whose gradient is taken."""
    samples = [sample(1, repeats=1), sample(2, repeats=1, reg=True, subject="")]
    options = {"optimizer": "sgd-nesterov", "beta1": 1e-9, "max_grad_norm": 0.0}
    made = job(samples, batch_size=2, steps=1, prior_loss_weight=0.25, learning_rate=1e-3, **options)
    probe = dataclasses.replace(made, denoiser=torch.tensor(0.5, requires_grad=True))
    one, two = (image_losses(probe, make_batch(probe, [SampleRef(s, 0)]))[0][0] for s in samples)
    ((one + 0.25 * two) / 2).backward()
    (step,) = run(made)
    assert float(made.denoiser.detach()) == pytest.approx(0.5 - 1e-3 * float(probe.denoiser.grad), rel=1e-5)
    assert float(step.grad_norm) == pytest.approx(abs(float(probe.denoiser.grad)), rel=1e-5)


def test_accumulated_batches_are_one_large_batch():
    """The gradient of a step is that of all its images alike, whatever sizes they have."""
    samples = [sample(k, repeats=1, width=64 if k < 5 else 128) for k in range(7)]
    options = {"optimizer": "sgd-nesterov", "beta1": 1e-9, "max_grad_norm": 0.0, "learning_rate": 1e-3}
    made = job(samples, batch_size=2, gradient_accumulation_steps=99, epochs=1, **options)
    probe = dataclasses.replace(made, denoiser=torch.tensor(0.5, requires_grad=True))
    sum(image_losses(probe, make_batch(probe, [SampleRef(s, 0)]))[0][0] / 7 for s in samples).backward()
    (step,) = run(made)
    assert [len(shown.samples) for shown in step.trained].count(2) == 3
    assert float(made.denoiser.detach()) == pytest.approx(0.5 - 1e-3 * float(probe.denoiser.grad), rel=1e-5)


def test_accumulation_stays_within_an_epoch():
    samples = [sample(k, repeats=1) for k in range(5)]
    steps = run(job(samples, batch_size=1, gradient_accumulation_steps=2, epochs=2))
    assert [len(step.trained) for step in steps] == [2, 2, 1, 2, 2, 1]
    assert [step.epoch_ends for step in steps] == [False, False, True, False, False, True]


def test_steps_say_what_was_done():
    samples = [sample(1, repeats=1), sample(2, repeats=1, reg=True, subject=""), sample(3, repeats=1, width=128)]
    samples.append(sample(4, repeats=1, reg=True, subject=""))
    made = job(samples, batch_size=2, epochs=3, lr_scheduler="linear")
    steps = run(made)
    total = count_steps(made.config, samples)
    assert [step.number for step in steps] == list(range(1, total + 1))
    assert [step.last for step in steps] == [False] * (total - 1) + [True]
    assert {step.epoch for step in steps} == {1, 2, 3}
    assert sum(step.epoch_ends for step in steps) == 3
    np.testing.assert_allclose([step.learning_rate for step in steps], [1e-2 * (1 - k / total) for k in range(total)])
    shown = [shown for step in steps for shown in step.trained]
    assert all(len({draw.image.width for draw in batch.samples}) == 1 for batch in shown)
    assert sum(len(batch.samples) for batch in shown) == 3 * 4


def test_shown_errors_are_unweighted():
    samples = [sample(1, repeats=2), sample(2, repeats=1, reg=True, subject="")]
    made = job(samples, batch_size=4, steps=1, prior_loss_weight=0.1, min_snr_gamma=5.0)
    fresh = dataclasses.replace(made, denoiser=torch.tensor(0.5))
    (step,) = run(made)
    (shown,) = step.trained
    for draw, error, weight in zip(shown.samples, shown.losses, shown.weights, strict=True):
        alone = image_losses(fresh, make_batch(fresh, [draw]))
        assert (float(error), float(weight)) == pytest.approx([float(value) for value in alone], rel=1e-5)


@pytest.mark.parametrize(
    ("rhythm", "wanted"), [((0, 1), [3, 6]), ((0, 2), [6]), ((2, 0), [2, 4, 6]), ((4, 1), [3, 4, 6]), ((0, 0), [6])]
)
def test_when_something_is_due(rhythm, wanted):
    steps = run(job([sample(k, repeats=1) for k in range(3)], batch_size=1, epochs=2))
    assert [step.number for step in steps if step.due(*rhythm)] == wanted


def test_a_watcher_ends_the_run_after_all_were_asked():
    asked = []
    steps = run(
        job([sample(1)], batch_size=1, steps=9), lambda step: step.number == 4, lambda step: bool(asked.append(step))
    )
    assert len(steps) == len(asked) == 4


def test_a_run_that_goes_on_sees_what_it_would_have_seen():
    samples = [sample(k) for k in range(3)]
    made = job(samples, batch_size=2, epochs=3)
    whole = [[shown.samples for shown in step.trained] for step in run(made)]
    assert [[shown.samples for shown in step.trained] for step in run(made, done=4)] == whole[4:]
    assert run(made, done=len(whole)) == []


def test_no_batch_at_all():
    with pytest.raises(PrepError, match="No image size has the 3 images of a batch"):
        count_steps(train_options(batch_size=3, incomplete_batch="drop"), [sample(1, repeats=2)])


def test_number_of_steps():
    samples = [sample(k, repeats=3) for k in range(5)]
    assert count_steps(train_options(epochs=4, batch_size=2), samples) == 4 * 8
    assert count_steps(train_options(epochs=4, batch_size=2, steps=11), samples) == 11
    assert len(run(job(samples, steps=11))) == 11
    assert count_steps(train_options(epochs=4, batch_size=2, gradient_accumulation_steps=3), samples) == 4 * 3


class Calls(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the operations that torch does, by name."""

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd-nesterov", "lion", "adafactor"])
def test_no_value_leaves_the_device_and_every_step_costs_the_same(optimizer):
    """On a GPU every .item() or .tolist() waits; steps without a look have none, and none grow from epoch to epoch."""
    if optimizer == "lion":
        pytest.importorskip("lion_pytorch")
    samples = [sample(k, repeats=1) for k in range(8)]
    made = job(samples, batch_size=2, gradient_accumulation_steps=2, epochs=3, optimizer=optimizer, ema_decay=0.9)
    counts = []
    with Calls() as calls:
        run(made, lambda step: bool(counts.append(calls.counts.copy()) or calls.counts.clear()))
    assert not any(count[name] for count in counts for name in ("_local_scalar_dense", "nonzero", "equal"))
    assert counts[2] == counts[3] == counts[4] == counts[5]
    assert counts[3].total() > 50


def test_overfitting_one_batch(tmp_path):
    """Shown the same two draws over and over, the real adapters learn them."""
    model = checkpoint(workspace(tmp_path))
    unet = model.load("unet")
    inject(unet, SD1.targets["unet"].linear, (16, 16.0), 1)
    samples = [sample(1), sample(2)]
    text = torch.randn(2, 77, 64, generator=torch.Generator().manual_seed(0))
    made = dataclasses.replace(
        job(samples), family=SD1(), denoiser=unet, encode_prompts=lambda captions: {"text": text[: len(captions)]}
    )
    batch = [SampleRef(samples[0], 0), SampleRef(samples[1], 0)]
    optimizer = torch.optim.AdamW(list(parameters(unet).values()), lr=5e-3)
    losses = []
    for _ in range(60):
        loss = image_losses(made, make_batch(made, batch))[0].mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.8
    assert losses[-1] < 0.1 * losses[0]
