"""What training takes of a GPU's memory, against what others measured and what the models weigh."""

from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from tests.training_options import train_options
from tests.training_set import sample
from training.models.architecture_config import write_config_folder
from training.models.base_model import BaseFiles
from training.models.loader import BaseModel
from training.models.sd1 import SD1
from training.performance.memory_estimate import GIB, MemoryEstimate, check_memory, estimate_memory

WEIGHTS = 859_520_964
# Rank 16 times what the 192 modules take and give: per transformer, of width w, both projections, eight of
# attention, of which two take the text's 768 numbers, and the two of its feed-forward part; 5, 5 and 6 of them.
LEARNED = 16 * sum(count * (4 * w + 14 * w + 2 * 768 + 14 * w) for w, count in ((320, 5), (640, 5), (1280, 6)))
ROOMY = MemoryEstimate(2 * GIB, 0.9 * GIB, 0.3 * GIB)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd1")
    write_config_folder(folder, SD1.single_file.architecture)
    return BaseModel(BaseFiles("toy", folder, "", ""), folder)


def need(base, size=512, **options):
    options = {"precision": "bf16"} | options
    return estimate_memory(base, SD1(), train_options(**options), [sample(1, width=size, height=size), sample(2)])


def test_the_small_model_at_512_pixels(base):
    """SimpleTuner reports 2.87 GiB of an adapter of rank 16 on attention at a batch of 1, without CUDA's own."""
    found = need(base)
    # Each number that learns has a copy, two gradients, a master and two means.
    assert found.fixed == 0.5 * GIB + 2 * WEIGHTS + 20 * LEARNED
    assert found.of(1, False) - 0.5 * GIB == pytest.approx(2.87 * GIB, rel=0.15)
    assert found.image == 0.86 * GIB


def test_images_and_number_format_scale_it(base):
    assert need(base, 1024).image == 4 * need(base).image
    assert need(base, precision="fp32").image == 2 * need(base).image
    assert need(base, precision="fp32").fixed == 0.5 * GIB + 4 * WEIGHTS + 16 * LEARNED
    assert need(base, rank=32).fixed - need(base).fixed == 20 * LEARNED
    assert need(base, ema_decay=0.9).fixed - need(base).fixed == 4 * LEARNED
    assert need(base).of(4, True) == need(base).fixed + 4 * 0.3 * GIB


def test_text_encoders_that_learn_stay_loaded(base):
    both = need(base, text_encoder_lr=1e-5).fixed - need(base, text_encoder_lr=0).fixed
    assert both == 4 * 123_060_480


def test_a_gpu_that_is_too_small_is_refused_before_loading():
    with pytest.raises(PrepError) as found:
        check_memory(ROOMY, train_options(), 1.5 * GIB, 1)
    assert found.value.wrong == (
        "Training this base model takes about 2.3 GiB of GPU memory, 2.0 GiB of them for its weights and the "
        "optimizer; 1.5 GiB are free."
    )


def test_a_batch_that_will_not_fit_is_said(caplog):
    check_memory(ROOMY, train_options(), 6 * GIB, 4)
    assert not caplog.messages
    check_memory(ROOMY, train_options(), 5 * GIB, 4)
    assert caplog.messages == [
        "A batch of 4 images takes about 5.6 GiB of GPU memory, and 5.0 GiB are free. If it does not fit: "
        "gradient checkpointing, then splitting the batch."
    ]
    caplog.clear()
    check_memory(ROOMY, train_options(gradient_checkpointing="on"), 5 * GIB, 4)
    assert not caplog.messages  # 3.2 GiB
    check_memory(ROOMY, train_options(gradient_checkpointing="off"), 5 * GIB, 4)
    assert caplog.messages[0].endswith("fit: splitting the batch.")


def test_a_whole_model_is_held_in_float32_and_an_embedding_is_next_to_nothing(base):
    assert need(base, method="dreambooth", learning_rate=2e-6).fixed == 0.5 * GIB + (4 + 16) * WEIGHTS
    assert need(base, method="textual-inversion").fixed == 0.5 * GIB + 2 * WEIGHTS + 4 * 123_060_480
