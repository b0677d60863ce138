"""The images that training reads from a manifest, and sets that cannot be trained on."""

from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from pipeline.record import Drop
from tests.training_set import manifest, placed, sample, workspace
from training.data.dataset import check_samples, read_samples


def test_samples_are_the_kept_and_placed_records(tmp_path):
    work = workspace(tmp_path)
    records = [
        placed(work, 1),
        placed(work, 2, dataset_path="dataset/train_x/10_smith man/b.png", caption=""),
        placed(work, 3, dataset_path=""),
        placed(work, 4, drop=Drop("build", "a duplicate")),
        placed(work, 5, role="reg"),
        placed(work, 6, dataset_path="dataset/train_x/no number/c.png", size=(64, 128)),
    ]
    found = {s.caption: s for s in read_samples(manifest(work, records))}
    assert set(found) == {"smith, image 1", "smith man", "man", "smith, image 6"}
    assert (found["smith, image 1"].repeats, found["smith, image 1"].folder) == (2, "2_smith man")
    assert (found["smith man"].repeats, found["smith man"].subject) == (10, "smith")
    assert (found["man"].reg, found["man"].repeats, found["man"].class_name) == (True, 1, "man")
    assert (found["smith, image 6"].repeats, found["smith, image 6"].height) == (1, 128)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([], "no images to train on"),
        ([sample(1, reg=True)], "no images to train on"),
        ([sample(1), sample(2, width=500)], "500 x 64 pixels; the sides must be multiples of 8"),
        ([sample(1), sample(2, reg=True, class_name="dog")], "class 'dog', but no subject"),
    ],
)
def test_sets_that_cannot_be_trained_on(samples, said):
    with pytest.raises(PrepError, match=said):
        check_samples(samples, 8)
