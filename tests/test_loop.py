"""The loop: its loss by hand, overfitting, order, and what it does when a loss is not finite."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pipeline.errors import PrepError
from tests.training_set import checkpoint, sample, workspace
from training.draws import Draw, chance
from training.families.sd1 import SD1
from training.loop import Job, count_steps, errors, prepare, train
from training.methods.adapters import inject, parameters
from training.objective import ddpm
from training.optimizers import Group
from training.train import Train

SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
CPU = torch.device("cpu")


class Toy:
    """A family whose model multiplies the noisy latent by a number, plus what the caption and the time say."""

    def forward(self, model, noisy, time, condition, size):
        return model * noisy + condition["text"].view(-1, 1, 1, 1) + time.view(-1, 1, 1, 1) / 1000


def job(samples, schedule=None, **options) -> Job:
    """A job with the toy family; a sample's latent is made of its id."""
    weight = torch.tensor(0.5, requires_grad=True)

    def latent(draw):
        stream = torch.Generator().manual_seed(int(draw.sample.id, 16))
        mean = torch.randn(1, 4, draw.sample.height // 8, draw.sample.width // 8, generator=stream)
        return mean, torch.full_like(mean, 0.1)

    config = Train(**{"learning_rate": 1e-2, "batch": 3} | options)
    return Job(
        config=config,
        family=Toy(),
        objective=ddpm(SCHEDULE | (schedule or {}), config),
        denoiser=weight,
        samples=samples,
        latent=latent,
        mask=lambda draw: None,
        prompt=lambda draw: draw.sample.caption,
        condition=lambda captions: {"text": torch.tensor([float(len(caption)) / 100 for caption in captions])},
        groups=[Group("toy", {"weight": weight}, config.learning_rate)],
        device=CPU,
    )


def nothing(done, total):
    """Report to nobody."""


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("min_snr", [0.0, 5.0])
def test_loss_is_the_published_formula(prediction, min_snr):
    samples = [sample(1), sample(2, reg=True, subject="", caption="man"), sample(3)]
    made = job(samples, {"prediction_type": prediction}, min_snr=min_snr, prior_loss_weight=0.3, noise_offset=0.1)
    batch = [Draw(samples[0], 4), Draw(samples[1], 0), Draw(samples[2], 1)]
    error, weight = errors(made, prepare(made, batch))

    alphas = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    for k, draw in enumerate(batch):
        mean, std = (x.numpy().astype(float) for x in made.latent(draw))
        luck = chance(draw, made.objective, mean.shape[1:], (42, made.config))
        noise, time = luck.noise.numpy().astype(float), int(luck.time)
        clean = mean + std * luck.posterior.numpy()
        a = alphas[time]
        noisy = np.sqrt(a) * clean + np.sqrt(1 - a) * noise
        predicted = 0.5 * noisy + len(draw.sample.caption) / 100 + time / 1000
        target = noise if prediction == "epsilon" else np.sqrt(a) * noise - np.sqrt(1 - a) * clean
        snr = a / (1 - a)
        wanted = 1.0 if not min_snr else min(snr, min_snr) / (snr if prediction == "epsilon" else snr + 1)
        wanted *= 0.3 if draw.sample.reg else 1.0
        assert float(error[k].detach()) == pytest.approx(((predicted - target) ** 2).mean(), rel=1e-4)
        assert float(weight[k]) == pytest.approx(wanted, rel=1e-3)


def test_first_step_moves_against_the_weighted_gradient(monkeypatch):
    """Plain gradient descent in place of AdamW shows the loss whose gradient is taken."""
    sgd = torch.optim.SGD
    monkeypatch.setattr("torch.optim.AdamW", lambda groups, weight_decay: sgd(groups))
    samples = [sample(1, repeats=1), sample(2, repeats=1, reg=True, subject="")]
    made = job(samples, batch=2, steps=1, prior_loss_weight=0.25, learning_rate=1e-3)
    probe = dataclasses.replace(made, denoiser=torch.tensor(0.5, requires_grad=True))
    one, two = (errors(probe, prepare(probe, [Draw(s, 0)]))[0][0] for s in samples)
    ((one + 0.25 * two) / 2).backward()
    train(made, nothing)
    assert float(made.denoiser.detach()) == pytest.approx(0.5 - 1e-3 * float(probe.denoiser.grad), rel=1e-5)


def test_rows_say_what_was_done():
    samples = [sample(1, repeats=1), sample(2, repeats=1, reg=True, subject=""), sample(3, repeats=1, width=128)]
    samples.append(sample(4, repeats=1, reg=True, subject=""))
    made = job(samples, batch=2, epochs=3, scheduler="linear")
    told = []
    rows = train(made, lambda done, total: told.append((done, total)))
    total = count_steps(made.config, samples)
    assert told == [(k + 1, total) for k in range(total)]
    assert [row.step for row in rows] == list(range(1, total + 1))
    assert {row.epoch for row in rows} == {1, 2, 3}
    np.testing.assert_allclose([row.learning_rate for row in rows], [1e-2 * (1 - k / total) for k in range(total)])
    reg = {s.id for s in samples if s.reg}
    for row in rows:
        assert (row.prior_loss is None) == (not reg & set(row.ids))
        assert (row.loss is None) == (not set(row.ids) - reg)
        assert row.width == (128 if samples[2].id in row.ids else 64)
    assert sum(len(row.ids) for row in rows) == 3 * 4  # two subject turns and as many regularization turns an epoch


def test_logged_loss_is_the_unweighted_mean_of_each_kind():
    samples = [sample(1, repeats=2), sample(2, repeats=1, reg=True, subject="")]
    made = job(samples, batch=4, steps=1, prior_loss_weight=0.1, min_snr=5.0)
    fresh = dataclasses.replace(made, denoiser=torch.tensor(0.5))
    subject = [float(errors(fresh, prepare(fresh, [Draw(samples[0], k)]))[0]) for k in range(2)]
    prior = [float(errors(fresh, prepare(fresh, [Draw(samples[1], k)]))[0]) for k in range(2)]
    (row,) = train(made, nothing)
    assert row.loss == pytest.approx(sum(subject) / 2, rel=1e-5)
    assert row.prior_loss == pytest.approx(sum(prior) / 2, rel=1e-5)


def test_number_of_steps():
    samples = [sample(k, repeats=3) for k in range(5)]
    assert count_steps(Train(epochs=4, batch=2), samples) == 4 * 8
    assert count_steps(Train(epochs=4, batch=2, steps=11), samples) == 11
    assert len(train(job(samples, steps=11), nothing)) == 11


@pytest.mark.parametrize("bad_step", [1, 30])
def test_a_loss_that_is_not_finite_names_the_batch(bad_step):
    samples = [sample(k) for k in range(6)]
    made = job(samples, steps=40)
    calls = []

    def condition(captions):
        calls.append(captions)
        text = torch.zeros(len(captions))
        return {"text": text * float("nan") if len(calls) == bad_step else text}

    with pytest.raises(PrepError) as caught:
        train(dataclasses.replace(made, condition=condition), nothing)
    assert f"step {bad_step} is not finite" in caught.value.wrong
    for k in range(6):
        assert (samples[k].id in caught.value.wrong) == (samples[k].caption in calls[bad_step - 1])
    assert len(calls) < bad_step + 25


def test_no_value_leaves_the_device_in_a_step_that_does_not_look(monkeypatch):
    """On a GPU every .item() or .tolist() waits; between looks there is none."""
    samples = [sample(k) for k in range(4)]
    calls = []
    for name in ("item", "tolist", "__float__", "__bool__"):
        plain = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, plain=plain: (calls.append(1), plain(self))[1])
    made = job(samples, steps=20)
    monkeypatch.setattr("training.loop._look", lambda *given: None)
    monkeypatch.setattr("training.loop._rows", lambda *given: [])
    monkeypatch.setattr("torch.optim.AdamW", lambda groups, weight_decay: torch.optim.SGD(groups))
    calls.clear()
    made = dataclasses.replace(made, condition=lambda captions: {"text": torch.zeros(len(captions))})
    train(made, nothing)
    assert calls == []


def test_overfitting_one_batch(tmp_path):
    """Shown the same two draws over and over, the real adapters learn them."""
    model = checkpoint(workspace(tmp_path))
    unet = model.load("unet")
    inject(unet, SD1.targets["unet"].linear, (16, 16.0), 1)
    samples = [sample(1), sample(2)]
    text = torch.randn(2, 77, 64, generator=torch.Generator().manual_seed(0))
    made = dataclasses.replace(
        job(samples), family=SD1(), denoiser=unet, condition=lambda captions: {"text": text[: len(captions)]}
    )
    batch = [Draw(samples[0], 0), Draw(samples[1], 0)]
    optimizer = torch.optim.AdamW(list(parameters(unet).values()), lr=5e-3)
    losses = []
    for _ in range(60):
        loss = errors(made, prepare(made, batch))[0].mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.8
    assert losses[-1] < 0.1 * losses[0]
