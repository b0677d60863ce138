"""What kohya's reader and tools were seen to get wrong, case by case, and that prep gets it right.

Each case was reproduced with the original function; the numbers are what came out, or what should have.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PrepError
from pipeline.imaging.bucket import buckets, nearest_bucket, scale_to
from pipeline.kohya_folders import parse_folder_name
from pipeline.recipe import check_name
from pipeline.split import ImageKey, SplitRule
from pipeline.workspace import Workspace
from stages.building.layout import LayoutOptions, plan_layout
from stages.crop import Crop
from stages.merge import Merge
from stages.merging.rewrite import read_rewrites, rewrite_sentence, rewrite_tag
from tests.make import record, tag
from training.batch import SampleRef, TrainingImage
from training.data.captions import build_prompt, fixed_prompt
from training.data.sampler import epoch_batches
from training.options.captions import CaptionOptions


def sample(caption, number=0, **changes):
    made = TrainingImage(f"{number:016x}", "", "", 512, 512, caption, "smith", "man", False, "10_smith man", 10)
    return replace(made, **changes)


def drawn(caption, how, number=0, epoch=0):
    return build_prompt(SampleRef(sample(caption), number, epoch), how, 7)


def draws(caption, how):
    return {drawn(caption, how, number) for number in range(60)}


# --- folders (1.1) -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "repeats", "text"), [("10_sks dog", 10, "sks dog"), ("10", 10, ""), ("1_000_cat", 1, "000_cat")]
)
def test_folder_names_as_kohya_reads_them(name, repeats, text):
    folder_spec = parse_folder_name(f"train_x/{name}")
    assert (folder_spec.repeats, folder_spec.text) == (repeats, text)


@pytest.mark.parametrize("name", ["10 sks dog", "5-cat", "0_x", "-3_x", "cat"])
def test_folders_that_kohya_drops_are_none_of_ours(name):
    """That check names them is tested in test_reader.py."""
    assert parse_folder_name(f"train_x/{name}") is None


def test_a_token_cannot_break_its_folder():
    for token in ("a/b", "..", "a\nb", "a*"):
        with pytest.raises(PrepError):
            check_name(token, "token")


# --- balance (1.3) -------------------------------------------------------------------------------


def laid(images, repeats, others):
    """How often an epoch shows training and each regularization image, as build lays them out."""
    records = [*(record(n) for n in range(images))]
    records += [record(10_000 + n, subject="", role="reg") for n in range(others)]
    fates = plan_layout(LayoutOptions("x", (f"smith={repeats}",), "folder", 0, 0), records)
    folders = [fate.folder for fate in fates.values() if fate.folder]
    count = Counter(folder.partition("/")[0] for folder in folders)
    shown = sorted(int(folder.partition("/")[2].partition("_")[0]) for folder in folders if folder.startswith("reg"))
    return count["train_x"] * repeats, shown


def test_regularization_does_not_overshoot():
    """kohya: 5 training images, 4 others with 10 repeats: one of them is shown 10 times, the rest never."""
    assert laid(5, 1, 4) == (5, [1, 1, 1, 2])


def test_regularization_is_repeated_evenly():
    assert laid(10, 1, 3) == (10, [3, 3, 4])


def test_of_too_many_regularization_images_the_seed_chooses_and_not_the_name():
    """kohya: of 25 the first 10 by name, always the same."""
    records = [*(record(n) for n in range(10)), *(record(10_000 + n, subject="", role="reg") for n in range(25))]
    taken = []
    for seed in range(3):
        fates = plan_layout(LayoutOptions("x", ("smith=1",), "folder", 0, seed), records)
        taken.append({id for id, fate in fates.items() if fate.folder.startswith("reg")})
    assert [len(ids) for ids in taken] == [10, 10, 10]
    assert taken[0] != taken[1] != taken[2]


def test_the_trainer_draws_as_many_regularization_images_as_others_and_each_in_turn():
    train = [sample("smith", n, repeats=1) for n in range(10)]
    reg = [sample("man", 100 + n, reg=True, subject="", repeats=10) for n in range(25)]
    seen = Counter()
    for epoch in range(5):
        draws = [draw for batch in epoch_batches([*train, *reg], epoch, 1, 0) for draw in batch]
        prior = [draw.image.id for draw in draws if draw.image.reg]
        assert (len(draws), len(prior)) == (20, 10)
        seen.update(prior)
    assert set(seen.values()) == {2} and len(seen) == 25


# --- captions (1.4) ------------------------------------------------------------------------------


def test_dropout_of_every_first_epoch_would_be_no_training():
    with pytest.raises(PrepError, match="leaves every caption empty"):
        CaptionOptions(caption_dropout_every_n_epochs=1).check()


def test_dropout_of_every_second_epoch():
    how = CaptionOptions(caption_dropout_every_n_epochs=2)
    assert [bool(drawn("smith, hat", how, epoch=epoch)) for epoch in range(4)] == [True, False, True, False]


def test_nested_choices():
    assert draws("{a|{b|c}}", CaptionOptions(wildcards=True)) == {"a", "b", "c"}


def test_tags_are_joined_with_a_comma_and_a_space():
    assert drawn("smith,hat ,  coat", CaptionOptions()) == "smith, hat, coat"


def test_a_separator_never_enters_the_prompt():
    """kohya: without shuffling the '|||' stays."""
    assert drawn("smith ||| hat, coat", CaptionOptions(keep_separator="|||")) == "smith, hat, coat"


def test_prefix_and_suffix_frame_whichever_line_is_drawn():
    """kohya: the prefix lands on the first line alone, the suffix on the last."""
    how = CaptionOptions(wildcards=True, caption_prefix="photo of", caption_suffix="outdoors")
    assert draws("smith\nsmith, hat", how) == {"photo of smith outdoors", "photo of smith, hat outdoors"}


def test_empty_tags_are_none():
    assert drawn("a, b, , ", CaptionOptions(shuffle_caption=True, keep_tokens=2)) == "a, b"


def test_tag_dropout_never_empties_a_caption():
    how = CaptionOptions(tag_dropout=0.99, keep_tokens=0)
    assert all("smith" in text for text in draws("hat, smith, coat", how))
    assert all(text == "smith" for text in draws("smith, hat", CaptionOptions(tag_dropout=1.0)))


def test_weights_are_not_torn_by_shuffling():
    how = CaptionOptions(shuffle_caption=True, keep_tokens=0)
    assert all("(a, b:1.3)" in text for text in draws("(a, b:1.3), c, d", how))


def test_a_prefix_takes_no_place_of_the_kept_tags():
    how = CaptionOptions(shuffle_caption=True, keep_tokens=1, caption_prefix="photo of")
    assert {text.split(", ")[0] for text in draws("smith, a, b", how)} == {"photo of smith"}


def test_what_is_shuffled_is_whole_and_prefix_free_dropout_is_empty():
    how = CaptionOptions(shuffle_caption=True, keep_tokens=1)
    assert all(sorted(text.split(", ")) == ["a", "b", "c", "smith"] for text in draws("smith, a, b, c", how))
    assert fixed_prompt(sample("smith, a"), how) == "smith, a"


# --- buckets (1.7) -------------------------------------------------------------------------------

SD1 = Crop().sizes()


@pytest.mark.parametrize(("resolution", "low", "high", "count"), [(512, 256, 1024, 17), (1024, 256, 2048, 41)])
def test_kohyas_buckets_are_all_there_but_for_those_that_only_lose(resolution, low, high, count):
    """Of kohya's sizes prep leaves out those that another outgrows: as wide, and higher."""
    ours = set(buckets(resolution, 64, low, high))
    square = resolution // 64 * 64
    kohyas = {(square, square)}
    for width in range(low, high + 1, 64):
        height = min(high, resolution**2 // width // 64 * 64)
        if height >= low:
            kohyas |= {(width, height), (height, width)}
    assert len(kohyas) == count
    assert ours <= kohyas
    for lost in kohyas - ours:
        assert any(size != lost and size[0] >= lost[0] and size[1] >= lost[1] for size in ours)


def test_a_very_long_image_loses_no_third_in_silence():
    """kohya: 3000 x 500 at 512 becomes 1024 x 256, a third of it cut away without a word."""
    width, height = nearest_bucket(3000, 500, SD1, 1.5)
    lost = 1 - width * height / (3000 * 500 * scale_to(3000, 500, (width, height)) ** 2)
    assert lost == pytest.approx(1 / 3, abs=0.01)  # no bucket is longer; it is recorded, reported and can be refused
    assert Crop(max_cropped=0.3).max_cropped < lost


@pytest.mark.parametrize("size", [(100, 100), (60, 400)])
def test_a_tiny_image_is_not_enlarged_in_silence(size):
    """kohya: 100 x 100 is enlarged five times, or gets a bucket of 64 x 64; 60 x 400 one of 0 x 384."""
    assert nearest_bucket(*size, SD1, Crop().max_upscale) is None
    assert nearest_bucket(*size, SD1, float("inf")) in SD1


def test_an_image_of_nearly_the_area_keeps_it():
    """kohya: 3072 x 3000 at 1024 becomes 960 x 960."""
    assert nearest_bucket(3072, 3000, Crop(resolution=1024).sizes(), 1.5) == (1024, 1024)


@given(st.integers(64, 4000), st.integers(64, 4000))
def test_tall_and_wide_images_are_treated_alike(width, height):
    """kohya compares aspects linearly: the same error weighs more for landscape than for portrait."""
    one, other = nearest_bucket(width, height, SD1, float("inf")), nearest_bucket(height, width, SD1, float("inf"))
    turned = (other[1], other[0])
    loss = [1 - w * h / (width * height * scale_to(width, height, (w, h)) ** 2) for w, h in (one, turned)]
    assert one[0] * one[1] == turned[0] * turned[1] or loss[0] == pytest.approx(loss[1], abs=0.05)


def test_batches_are_of_one_size_and_every_image_comes_as_planned():
    samples = [sample("smith", n, width=(512, 640)[n % 3 == 0], height=(512, 384)[n % 3 == 0]) for n in range(17)]
    batches = epoch_batches(samples, 0, 4, 0)
    assert all(len({(d.image.width, d.image.height) for d in batch}) == 1 for batch in batches)
    assert Counter(d.image.id for batch in batches for d in batch) == {s.id: 10 for s in samples}


# --- validation (1.13) ---------------------------------------------------------------------------


def split(count, share, seed):
    cards = [ImageKey(f"{n:016x}", f"{n:016x}", "smith", "man", "train", record(n).image.phash) for n in range(count)]
    held = SplitRule("val", share, 0, seed).taken(cards)
    return held, {card.root for card in cards} - held


@pytest.mark.parametrize("share", [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5])
def test_validation_never_overlaps_training(share):
    """kohya: 172 of these 413 combinations share an image, even with a fixed seed."""
    for count in range(1, 60):
        held, rest = split(count, share, 0)
        assert not held & rest and len(held) + len(rest) == count
        assert rest and (held or count == 1)


def test_both_sides_of_a_split_come_from_one_choice():
    """kohya: without a seed both sides are drawn separately; of 20 images all 4 held out are trained on."""
    held, rest = split(20, 0.2, 0)
    assert len(held) == 4 and not held & rest
    assert split(20, 0.2, 0) == (held, rest) != split(20, 0.2, 1)


# --- tools (2) -----------------------------------------------------------------------------------


@pytest.fixture
def merged(tmp_path):
    def caption(said, **options):
        (done,) = Merge(**options).start(Workspace(tmp_path))([record(1, annotations=tuple(map(tag, said)))])
        return done.caption

    return caption


def test_replacing_a_tag_replaces_that_tag(merged):
    """kohya: nothing happens, or every tag becomes the last replacement."""
    assert merged(["1girl", "blue_eyes"], replace=("blue eyes=azure eyes",)) == "smith, 1girl, azure eyes"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a salesperson talking to people", "a salesperson talking to people"),
        ("a personal ladybug", "a personal ladybug"),
        ("a person with a lady", "a girl with a girl"),
    ],
)
def test_words_are_replaced_as_words(text, kept):
    """kohya: 'a salesperson talking to people' becomes 'a salesgirl talking to girls', 'ladybug' 'girlbug'."""
    rules = read_rewrites(("word:person=girl", "word:lady=girl"), ())
    assert rewrite_sentence(text, rules) == kept
    assert rewrite_tag(text, rules) == kept


def test_a_tag_that_begins_like_a_rating_ends_nothing(merged):
    """kohya: '1girl, solo, rating_test, blush' loses blush."""
    assert merged(["1girl", "solo", "rating_test", "blush"]) == "smith, 1girl, blush, rating test, solo"


def test_removing_a_tag_leaves_its_kin(merged):
    """kohya: shirt goes where there is a white shirt, and 'young ' goes everywhere."""
    assert merged(["shirt", "white_shirt", "youngster"], remove=("shirt", "young")) == "smith, white shirt, youngster"


@pytest.mark.parametrize("people", ["2girls", "multiple_boys"])
def test_several_people_keep_the_colors_of_all(merged, people):
    """kohya: with 'girls' or 'boys' among the tags it takes out hair and eyes of which there are two."""
    said = [people, "blonde_hair", "black_hair", "blue_eyes", "red_eyes"]
    expected = ["black hair", "blonde hair", "blue eyes", "red eyes", people.replace("_", " ")]
    assert sorted(merged(said).split(", ")[1:]) == sorted(expected)


def test_kaomoji_keep_their_underscores(merged):
    assert merged(["<o>_<o>", "(o)_(o)", "||_||", "long_hair"]) == "smith, (o)_(o), <o>_<o>, long hair, ||_||"


def test_first_tags_come_in_the_order_given(merged):
    """kohya: they are inserted one by one at the front, and so come reversed."""
    assert merged(["a", "b", "c", "d"], pinned=("d", "b")) == "smith, d, b, a, c"


def test_the_trigger_is_said_once_however_often_captions_are_merged(tmp_path):
    """kohya's GUI: each prefix and suffix is added again."""
    merge = Merge(prefix="photo").start(Workspace(tmp_path))
    (once,) = merge([record(1, annotations=(tag("hat"),))])
    assert merge([once]) == [once]
    assert once.caption == "photo, smith, hat"
