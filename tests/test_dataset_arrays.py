from __future__ import annotations

from dataclasses import replace

from pipeline.checks.caption_pages import read_pages
from pipeline.checks.check import apply_caption_rules
from pipeline.checks.dataset_arrays import ROLES, background_tag, load_arrays
from pipeline.checks.finding import FindingCollector
from pipeline.checks.rule_context import RuleContext, TrainingTargets
from tests.checking import TOKEN, copy, good, prior, written


def dealt(folder, records, repeats=None):
    manifest = written(folder, records)
    facts = RuleContext(TrainingTargets(), frozenset({TOKEN}))
    return list(manifest.records()), load_arrays(
        apply_caption_rules(read_pages(manifest), facts, FindingCollector()), repeats or {}
    )


def test_each_image_has_its_card(tmp_path):
    records = [*(good(n) for n in range(4)), copy(good(0), 1), prior(9), good(11, role="val"), good(12, caption="")]
    records[1] = replace(records[1], dataset_path="dataset/train_x/7_smthx man/1.png")
    records[2] = replace(records[2], dataset_path="dataset/train_7_x/12/1.png")
    stored, cards = dealt(tmp_path, records, {TOKEN: 5})
    assert [ROLES[number] for number in cards.role] == [one.role for one in stored]
    assert [cards.subjects[number] for number in cards.subject] == [one.subject for one in stored]
    assert [cards.classes[number] for number in cards.class_name] == ["man"] * len(stored)
    repeats = {records[1].id: 7, records[2].id: 12, prior(9).id: 1}
    assert cards.repeats.tolist() == [repeats.get(one.id, 5) for one in stored]
    same_root = cards.root_hash == cards.root_hash[[one.id for one in stored].index(good(0).id)]
    assert same_root.sum() == 2 and len(set(cards.pixel_hash.tolist())) == len(stored)
    assert (cards.caption_hash == 0).tolist() == [one.caption == "" for one in stored]


def test_nothing_has_no_cards(tmp_path):
    assert dealt(tmp_path, [replace(good(0), image=None)])[1] is None


def test_backgrounds():
    assert background_tag("White_Background") == "white background"
    assert [background_tag(tag) for tag in ("simple_background", "background", "hat", "blurry background")] == [""] * 4
