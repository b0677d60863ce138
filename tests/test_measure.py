"""What a report says of a set equals what the manifest's records say, counted one by one."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict

import pytest

from pipeline.clip_tokens import Tokens
from pipeline.imaging.near_duplicates import duplicate_groups
from pipeline.manifest import write_manifest
from pipeline.record import Drop
from pipeline.report.measure import measure
from pipeline.tag_text import normalize_tag
from tests.make import record
from tests.report_set import HISTORY, make_set


def silent(done, total):
    pass


@pytest.fixture(scope="module", params=[0, 1, 2], ids="seed {}".format)
def known(request, tmp_path_factory):
    space, manifest = make_set(tmp_path_factory.mktemp("set"), count=60, seed=request.param)
    records = list(manifest.records())
    return measure(manifest, space, silent).facts, records, [r for r in records if r.kept]


def originals(kept):
    return [r for r in kept if r.transform is None]


def test_parts_are_all_images_by_subject_and_role(known):
    facts, _, kept = known
    told = {(p.role, p.subject, p.class_name): (p.originals, p.images) for p in facts.parts}
    everything = Counter((r.role, r.subject, r.class_name) for r in kept)
    plainly = Counter((r.role, r.subject, r.class_name) for r in originals(kept))
    assert told == {who: (plainly[who], count) for who, count in everything.items()}
    assert sum(p.images for p in facts.parts) == facts.counts.images == len(kept)
    assert {p.subject: p.shown // p.images for p in facts.parts} == {"smith": 10, "": 1, "anna": 1}


def test_buckets(known):
    facts, _, kept = known
    lost = defaultdict(list)
    for r in kept:
        lost[r.image.width, r.image.height].append(r.crop.cropped_fraction)
    assert {(b.width, b.height): b.images for b in facts.buckets} == {size: len(some) for size, some in lost.items()}
    for b in facts.buckets:
        some = lost[b.width, b.height]
        assert (b.lost, b.worst) == (pytest.approx(sum(some) / len(some), abs=1e-4), pytest.approx(max(some), abs=1e-4))
    assert [b.images for b in facts.buckets] == sorted((b.images for b in facts.buckets), reverse=True)


@pytest.mark.parametrize(
    ("name", "value", "limit", "bad"),
    [
        ("lost", lambda r: r.crop.cropped_fraction, 0.4, lambda v, limit: v > limit),
        ("enlarged", lambda r: r.crop.upscale, 1.25, lambda v, limit: v > limit),
        ("sharpness", lambda r: r.annotations[0].score, 0.5, lambda v, limit: v < limit),
    ],
)
def test_scales_count_originals_and_name_the_worst(known, name, value, limit, bad):
    facts, _, kept = known
    scale = getattr(facts, name)
    values = [value(r) for r in originals(kept)]
    assert sum(bar.count for bar in scale.bars) == len(values) and scale.unknown == 0
    assert scale.beyond == sum(bad(v, limit) for v in values) == sum(bar.count for bar in scale.bars if bar.bad)
    told = [v for _, v in scale.worst]
    assert told == pytest.approx(sorted(values, reverse=name != "sharpness")[: len(told)])
    by_id = {r.id: value(r) for r in kept}
    assert [by_id[one.id] for one, _ in scale.worst] == pytest.approx(told)


def test_sources_are_counted_once_each(known):
    facts, _, kept = known
    assert sum(bar.count for bar in facts.megapixels) == len({r.id.partition("-")[0] for r in kept})
    small = {r.id.partition("-")[0] for r in kept if r.crop.source_width * r.crop.source_height <= 250_000}
    assert facts.megapixels[0].count == len(small)


def test_captions(known):
    facts, _, kept = known
    tokens = {r.id: Tokens.load().count(r.caption) for r in kept}
    assert facts.captions.mean == pytest.approx(sum(tokens.values()) / len(tokens), abs=0.005)
    assert facts.captions.over == sum(count > 75 for count in tokens.values())
    assert facts.captions.distinct == len({r.caption for r in kept})
    assert [count for _, count in facts.captions.longest] == sorted(tokens.values(), reverse=True)[:5]
    assert all(tokens[one.id] == count for one, count in facts.captions.longest)
    assert sum(bar.count for bar in facts.captions.bars) == len(kept)


def test_tags_said_and_written(known):
    """Merge's threshold of 0.5 is in the history."""
    facts, _, kept = known
    said, written = Counter(), Counter()
    for r in kept:
        said.update(
            {normalize_tag(a.text) for a in r.annotations if a.kind == "tag" and (a.score is None or a.score >= 0.5)}
        )
        written.update({normalize_tag(part) for part in r.caption.split(", ") if len(part) <= 60})
    assert {t.tag: (t.said, t.written) for t in facts.tags} == {t: (said[t], written[t]) for t in {*said, *written}}
    assert facts.tags_in_all == len({*said, *written})
    assert facts.tags[0].written == max(*said.values(), *written.values()) or facts.tags[0].said >= facts.tags[1].said


def test_bonds_have_each_subjects_tags_once(known):
    facts, _, _ = known
    assert set(facts.bonds) == {"smith", "anna"}
    for some in facts.bonds.values():
        assert len({bond.tag for bond in some}) == len(some)
        assert [bond.coverage for bond in some] == sorted((bond.coverage for bond in some), reverse=True)
    assert next(bond for bond in facts.bonds["smith"] if bond.tag == "beard").action == "absorb"


def test_near_duplicates_are_groups_of_originals(known):
    facts, _, kept = known
    numbers = duplicate_groups([r.image.phash for r in kept], 6)
    members = defaultdict(set)
    for number, r in zip(numbers, kept, strict=True):
        if r.transform is None:
            members[number].add(r.id)
    wanted = {frozenset(some) for some in members.values() if len(some) > 1}
    assert wanted and {frozenset(one.id for one in alike.images) for alike in facts.likeness.listed} == wanted
    assert (facts.likeness.groups, facts.likeness.images) == (len(wanted), sum(map(len, wanted)))
    role = {r.id: r.role for r in kept}
    mixed = [len({role[one.id] for one in alike.images}) > 1 for alike in facts.likeness.listed]
    assert facts.likeness.across == sum(mixed) and mixed == sorted(mixed, reverse=True)


def test_every_drop_is_counted_under_one_reason(known):
    facts, records, _ = known
    wanted = Counter((r.drop.stage, r.drop.reason) for r in records if r.drop)
    assert {(d.stage, d.reason): d.count for d in facts.dropped} == wanted
    details = {r.id: r.drop.detail for r in records if r.drop}
    assert {one.id: detail for d in facts.dropped for one, detail in d.listed} == details


def test_rows_lead_to_the_records(known):
    facts, records, _ = known
    named = [one for alike in facts.likeness.listed for one in alike.images]
    named += [one for d in facts.dropped for one, _ in d.listed] + [one for one, _ in facts.lost.worst]
    assert all((records[one.row].id, records[one.row].source) == (one.id, one.source) for one in named)


def test_facts_are_json(known):
    facts, _, _ = known
    assert json.loads(json.dumps(dataclasses.asdict(facts), allow_nan=False))["counts"]["images"] == facts.counts.images


def test_a_set_without_any_image_still_tells_its_drops(tmp_path):
    space, _ = make_set(tmp_path, 1)
    gone = [dataclasses.replace(record(n), crop=None, image=None, drop=Drop("crop", "tiny", str(n))) for n in range(3)]
    manifest = write_manifest(space.manifest("crop"), [sorted(gone, key=lambda r: r.id)], HISTORY[:2])
    measured = measure(manifest, space, silent)
    assert measured.cards is None and measured.facts.captions is None and measured.facts.tags == ()
    assert [(d.reason, d.count) for d in measured.facts.dropped] == [("tiny", 3)]


def test_before_merge_there_are_tags_and_no_captions(tmp_path):
    space, manifest = make_set(tmp_path, 12)
    bare = [dataclasses.replace(r, caption="") for r in manifest.records()]
    tagged = write_manifest(space.manifest("tag"), [bare], HISTORY[:3])
    facts = measure(tagged, space, silent).facts
    assert facts.captions is None
    assert facts.tags and all(one.written == 0 for one in facts.tags)


def test_the_same_over_row_groups_of_any_size(tmp_path, monkeypatch):
    import pipeline.manifest

    space, manifest = make_set(tmp_path / "one", 50)
    records = list(manifest.records())
    monkeypatch.setattr(pipeline.manifest, "ROWS", 7)
    other, again = make_set(tmp_path / "other", 50)
    assert list(again.records()) == records
    one, two = (measure(m, s, silent).facts for m, s in ((manifest, space), (again, other)))
    assert dataclasses.replace(one, title="", digest="") == dataclasses.replace(two, title="", digest="")
