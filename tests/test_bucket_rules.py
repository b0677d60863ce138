from __future__ import annotations

from dataclasses import replace

from pipeline.checks.rule_context import TrainingTargets
from tests.checking import TOKEN, found, good, prior

SET = [good(n) for n in range(12)]


def sized(one, width, height):
    return replace(one, image=replace(one.image, width=width, height=height))


def test_too_few_images_for_a_batch(tmp_path):
    records = [*SET, sized(good(12), 640, 384), sized(prior(20), 640, 384)]
    aims = TrainingTargets(batch_size=4, repeats={TOKEN: 2})
    reported = found(tmp_path, records, aims)["too few images for a batch"]
    assert (reported.count, set(reported.images), reported.severity) == (2, {"raw/12.jpg", "raw/20.jpg"}, "warning")
    assert reported.message.startswith("640 x 384 has 3 images per epoch")
    assert found(tmp_path, records, TrainingTargets(batch_size=3, repeats={TOKEN: 2})) == {}
    assert found(tmp_path, records, TrainingTargets(batch_size=1)) == {}


def test_sides_that_latents_cannot_have(tmp_path):
    reported = found(tmp_path, [*SET, sized(good(12), 512, 516)])
    assert (reported["size not trainable"].severity, reported["size not trainable"].images) == (
        "error",
        ("raw/12.jpg",),
    )


def test_validation_images_fill_no_batch(tmp_path):
    held = sized(good(12, role="val"), 640, 384)
    assert found(tmp_path, [*SET, held], TrainingTargets(batch_size=8)) == {}
