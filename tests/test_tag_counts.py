from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.record import Annotation, Drop
from pipeline.tag_text import normalize_tag
from stages.merging.rewrite import read_rewrites, rewrite_tag
from stages.merging.tag_counts import count_tags
from stages.merging.thresholds import Thresholds, select_tags
from stages.merging.weights import ImageGroup
from tests.make import record, tag
from tests.worked_table import looks, manifest

OWN = Thresholds(0, 0, {}, False)
RULES = read_rewrites(("hat=cap",), ("solo",))

tags = st.builds(
    tag,
    st.sampled_from(["hat", "cap", "Hat", "long_hair", "solo", "o_o"]),
    st.one_of(st.none(), st.floats(0, 1), st.sampled_from([0.5, 0.7, 0.9])),
    st.sampled_from(["wd14:x", "wd14:wd-vit-tagger-v3", "basic", "deepdanbooru"]),
    st.sampled_from(["general", "character"]),
)
others = st.sampled_from([Annotation("hat", "caption", "", None, "blip"), Annotation("hat", "rating", "", 0.9, "wd14")])
said = st.lists(st.one_of(tags, others), max_size=5).map(tuple)
people = st.sampled_from([("smith", "train"), ("anna", "train"), ("", "reg")])
cuts = st.sampled_from(
    [OWN, Thresholds(0.5, 0.9, {}, False), Thresholds(0, 0, {"wd14": 0.7, "/character": 0.2}, False)]
)


def counted(records, cut, rename):
    """The same by the record: what captions would choose, with groups of one image each."""
    found = defaultdict(lambda: defaultdict(int))
    for r in records:
        if r.kept:
            names = {normalize_tag(new) for a in select_tags(r.annotations, cut) if (new := rename(a.text)) is not None}
            for name in names:
                found[ImageGroup(r.subject, r.class_name)][name] += 1
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(people, said, st.booleans()), max_size=12), st.one_of(cuts, st.just(Thresholds(0, 0, {}, True)))
)
def test_columns_say_what_records_say(rows, cut):
    """By Arrow or, for MCut, by the record: the tags that the captions would have."""
    drop = Drop("crop", "blurred")
    made = [
        record(n, subject=who, role=role, annotations=words, drop=drop if gone else None, image=looks(n, n + 1))
        for n, ((who, role), words, gone) in enumerate(rows)
    ]
    with tempfile.TemporaryDirectory() as folder:
        found = count_tags(manifest(Path(folder) / "tag.parquet", made), cut, lambda t: rewrite_tag(t, RULES), 0)
    wanted = counted(made, cut, lambda t: rewrite_tag(t, RULES))
    assert {one: tally.tags for one, tally in found.items() if tally.tags} == {k: dict(v) for k, v in wanted.items()}
    assert sum(tally.images for tally in found.values()) == sum(r.kept for r in made)


def test_several_row_groups_are_one_census(tmp_path):
    made = [record(n, annotations=(tag("hat"),) * (n % 2), image=looks(n, n)) for n in range(1, 20_002)]
    (tally,) = count_tags(manifest(tmp_path / "tag.parquet", made), OWN, str, 0).values()
    assert (tally.images, tally.records, tally.tags) == (20_001, 20_001, {"hat": 10_001})


def test_sentences_of_a_million_images_are_not_taken_for_tags(tmp_path):
    sentences = [
        record(n, annotations=(Annotation(f"a man {n}", "caption", "", None, "blip"), tag("hat"))) for n in range(50)
    ]
    asked = []
    count_tags(manifest(tmp_path / "tag.parquet", sentences), OWN, lambda t: asked.append(t) or t, 0)
    assert asked == ["hat"]


def test_a_score_at_the_threshold_is_enough(tmp_path):
    made = [record(n, annotations=(tag("hat", score),)) for n, score in enumerate((0.4999, 0.5, 0.5001))]
    (tally,) = count_tags(manifest(tmp_path / "tag.parquet", made), Thresholds(0.5, 0, {}, False), str, 0).values()
    assert tally.tags == {"hat": 2}


def test_an_empty_manifest(tmp_path):
    assert count_tags(manifest(tmp_path / "tag.parquet", []), OWN, str, 6) == {}


def test_of_near_duplicates_that_disagree_each_counts_in_part(tmp_path):
    one, two = record(1, annotations=(tag("hat"),), image=looks(1, 0xFF)), record(2, image=looks(2, 0xFE))
    (tally,) = count_tags(manifest(tmp_path / "tag.parquet", [one, two]), OWN, str, 6).values()
    assert (tally.images, tally.records, tally.tags) == (1, 2, {"hat": 0.5})
