"""From options to a job: what each draw shows, what of it counts, and what it is captioned with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.manifest import write_manifest
from tests.training_options import train_options
from tests.training_set import checkpoint, workspace
from training.batch import RunConfig, SampleRef
from training.data.dataset import read_samples
from training.data.folders import FolderPair, read_folders
from training.data.sampler import is_flipped
from training.models.families import detect_family
from training.setup import build_job
from training.trainer import image_losses, make_batch


def nothing(done, total):
    """Report to nobody."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A workspace and the samples of a folder: an image whose left half is clear, one without alpha, a class one."""
    folder = tmp_path_factory.mktemp("assembly")
    colors = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    alpha = np.full((64, 64, 1), 255, np.uint8)
    alpha[:, :32] = 0
    for name, array in (("1_sks man/a", np.dstack([colors, alpha])), ("1_sks man/b", colors[::-1])):
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(array)).save(folder / "data" / f"{name}.png")
    (folder / "data" / "1_sks man" / "a.txt").write_text("sks, hat, coat, boots, scarf")
    work = workspace(folder / "ws")
    found = read_folders(FolderPair(folder / "data"), work, nothing)
    return work, read_samples(write_manifest(work.manifest("data"), [found.records], (found.step,)))


def job_of(home, **options):
    work, samples = home
    model = checkpoint(work)
    return build_job(
        RunConfig(train_options(rank=2, **options), detect_family(model), model, samples), work, nothing
    ).job


def test_mirrored_draws_show_the_mirrored_image_and_mask(home):
    job = job_of(home, random_flip=True, masks="alpha")
    clear = next(s for s in home[1] if s.caption.startswith("sks, hat"))
    sides = {is_flipped(draw, 42): draw for draw in (SampleRef(clear, n) for n in range(20))}
    plain, turned = (job.latent(sides[side])[0] for side in (False, True))
    assert not torch.equal(plain, turned)
    assert torch.equal(job.latent(SampleRef(clear, sides[True].repeat))[0], turned)
    assert job.mask(sides[False]).tolist() == [[[[0.0] * 4 + [1.0] * 4] * 8]]
    assert job.mask(sides[True]).tolist() == [[[[1.0] * 4 + [0.0] * 4] * 8]]
    still = job_of(home)
    assert all(torch.equal(still.latent(SampleRef(clear, n))[0], plain) for n in range(8))


def test_only_what_the_mask_lets_count_is_in_the_loss(home):
    draws = [SampleRef(sample, 0) for sample in home[1]]
    whole, masked, floored = (
        job_of(home, **options) for options in ({}, {"masks": "alpha"}, {"masks": "alpha", "unmasked_weight": 1.0})
    )
    assert make_batch(whole, draws).mask is None
    batch = make_batch(masked, draws)
    with torch.no_grad():
        found, plain, floor = (image_losses(job, make_batch(job, draws))[0] for job in (masked, whole, floored))
        noisy = masked.objective.add_noise(batch.latents, batch.added_noise, batch.timesteps)
        said = masked.family.forward(
            masked.denoiser, noisy, batch.timesteps, masked.encode_prompts(batch.prompts), batch.size_conditioning
        )
    by_hand = (said - batch.noise).square()
    for k, draw in enumerate(draws):
        right = by_hand[k, :, :, 4:] if draw.image.caption.startswith("sks, hat") else by_hand[k]
        assert float(found[k]) == pytest.approx(float(right.mean()), rel=1e-4)
    assert torch.allclose(floor, plain)


def test_prompts_follow_the_options(home):
    sample = next(s for s in home[1] if s.caption.startswith("sks, hat"))
    assert job_of(home).prompt(SampleRef(sample, 3)) == sample.caption
    shuffled = job_of(home, shuffle_caption=True)
    prompts = {shuffled.prompt(SampleRef(sample, number)) for number in range(30)}
    assert len(prompts) > 10 and {prompt.split(", ")[0] for prompt in prompts} == {"sks"}
    reported = shuffled.encode_prompts(["sks, hat", "sks, coat", "sks, hat"])["text"]
    alone = shuffled.encode_prompts(["sks, coat"])["text"]
    assert torch.allclose(reported[1], alone[0], atol=1e-5) and torch.equal(reported[0], reported[2])
    assert not torch.allclose(reported[0], reported[1])


@pytest.mark.parametrize("tokens", [75, 150, 225])
def test_caption_tokens_reach_the_encoder(home, tokens):
    caption = home[1][0].caption
    assert job_of(home, max_token_length=tokens).encode_prompts([caption])["text"].shape == (1, tokens + 2, 64)


def test_weights_multiply_what_their_words_say(home):
    """Of 'sks, (hat:2)' the third token counts double; the text read is that without brackets."""
    from training.models.family import TextSettings

    work, _ = home
    model = checkpoint(work)
    family, tokenizers = detect_family(model), model.tokenizers()
    encoders = {"text_encoder": model.load("text_encoder")}
    with torch.no_grad():
        plain, weighted, raw = (
            family.encode_text(tokenizers, encoders, [caption], TextSettings(weighted=weighted))["text"][0]
            for caption, weighted in (("sks, hat", True), ("sks, (hat:2)", True), ("sks, (hat:2)", False))
        )
    ids = tokenizers["text_encoder"]("sks, hat").input_ids
    (hat,) = tokenizers["text_encoder"]("hat", add_special_tokens=False).input_ids
    place = ids.index(hat)
    assert torch.allclose(weighted[place], 2 * plain[place])
    others = [k for k in range(77) if k != place]
    assert torch.equal(weighted[others], plain[others]) and not torch.equal(raw, plain)
