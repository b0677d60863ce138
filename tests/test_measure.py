"""The report's data equal what the manifest's records say, counted one by one."""

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


def no_progress(done, total):
    pass


@pytest.fixture(scope="module", params=[0, 1, 2], ids="seed {}".format)
def known(request, tmp_path_factory):
    space, manifest = make_set(tmp_path_factory.mktemp("set"), count=60, seed=request.param)
    records = list(manifest.records())
    return measure(manifest, space, no_progress).data, records, [r for r in records if r.kept]


def originals(kept):
    return [r for r in kept if r.transform is None]


def test_groups_are_all_images_by_subject_and_role(known):
    data, _, kept = known
    reported = {(p.role, p.subject, p.class_name): (p.originals, p.images) for p in data.groups}
    everything = Counter((r.role, r.subject, r.class_name) for r in kept)
    without_copies = Counter((r.role, r.subject, r.class_name) for r in originals(kept))
    assert reported == {who: (without_copies[who], count) for who, count in everything.items()}
    assert sum(p.images for p in data.groups) == data.counts.images == len(kept)
    assert {p.subject: p.per_epoch // p.images for p in data.groups} == {"smith": 10, "": 1, "anna": 1}


def test_buckets(known):
    data, _, kept = known
    lost = defaultdict(list)
    for r in kept:
        lost[r.image.width, r.image.height].append(r.crop.cropped_fraction)
    assert {(b.width, b.height): b.images for b in data.buckets} == {size: len(some) for size, some in lost.items()}
    for b in data.buckets:
        some = lost[b.width, b.height]
        assert (b.mean_cropped, b.max_cropped) == (
            pytest.approx(sum(some) / len(some), abs=1e-4),
            pytest.approx(max(some), abs=1e-4),
        )
    assert [b.images for b in data.buckets] == sorted((b.images for b in data.buckets), reverse=True)


@pytest.mark.parametrize(
    ("name", "value", "limit", "bad"),
    [
        ("cropped", lambda r: r.crop.cropped_fraction, 0.4, lambda v, limit: v > limit),
        ("upscale", lambda r: r.crop.upscale, 1.25, lambda v, limit: v > limit),
        ("sharpness", lambda r: r.annotations[0].score, 0.5, lambda v, limit: v < limit),
    ],
)
def test_distributions_count_originals_and_name_the_worst(known, name, value, limit, bad):
    data, _, kept = known
    distribution = getattr(data, name)
    values = [value(r) for r in originals(kept)]
    assert sum(bar.count for bar in distribution.bars) == len(values) and distribution.unmeasured == 0
    assert (
        distribution.beyond_limit
        == sum(bad(v, limit) for v in values)
        == sum(bar.count for bar in distribution.bars if bar.beyond_limit)
    )
    reported = [v for _, v in distribution.worst]
    assert reported == pytest.approx(sorted(values, reverse=name != "sharpness")[: len(reported)])
    by_id = {r.id: value(r) for r in kept}
    assert [by_id[one.id] for one, _ in distribution.worst] == pytest.approx(reported)


def test_sources_are_counted_once_each(known):
    data, _, kept = known
    assert sum(bar.count for bar in data.megapixels) == len({r.id.partition("-")[0] for r in kept})
    small = {r.id.partition("-")[0] for r in kept if r.crop.source_width * r.crop.source_height <= 250_000}
    assert data.megapixels[0].count == len(small)


def test_captions(known):
    data, _, kept = known
    tokens = {r.id: Tokens.load().count(r.caption) for r in kept}
    assert data.captions.mean == pytest.approx(sum(tokens.values()) / len(tokens), abs=0.005)
    assert data.captions.over_window == sum(count > 75 for count in tokens.values())
    assert data.captions.distinct == len({r.caption for r in kept})
    assert [count for _, count in data.captions.longest] == sorted(tokens.values(), reverse=True)[:5]
    assert all(tokens[one.id] == count for one, count in data.captions.longest)
    assert sum(bar.count for bar in data.captions.bars) == len(kept)


def test_tags_predicted_and_in_captions(known):
    """Merge's threshold of 0.5 is in the history."""
    data, _, kept = known
    predicted, in_captions = Counter(), Counter()
    for r in kept:
        predicted.update(
            {normalize_tag(a.text) for a in r.annotations if a.kind == "tag" and (a.score is None or a.score >= 0.5)}
        )
        in_captions.update({normalize_tag(part) for part in r.caption.split(", ") if len(part) <= 60})
    assert {t.tag: (t.predicted, t.in_captions) for t in data.tags} == {
        t: (predicted[t], in_captions[t]) for t in {*predicted, *in_captions}
    }
    assert data.distinct_tags == len({*predicted, *in_captions})
    assert (
        data.tags[0].in_captions == max(*predicted.values(), *in_captions.values())
        or data.tags[0].predicted >= data.tags[1].predicted
    )


def test_associations_have_each_subjects_tags_once(known):
    data, _, _ = known
    assert set(data.associations) == {"smith", "anna"}
    for some in data.associations.values():
        assert len({association.tag for association in some}) == len(some)
        assert [association.coverage for association in some] == sorted(
            (association.coverage for association in some), reverse=True
        )
    assert (
        next(association for association in data.associations["smith"] if association.tag == "beard").action == "absorb"
    )


def test_near_duplicates_are_groups_of_originals(known):
    data, _, kept = known
    numbers = duplicate_groups([r.image.phash for r in kept], 6)
    members = defaultdict(set)
    for number, r in zip(numbers, kept, strict=True):
        if r.transform is None:
            members[number].add(r.id)
    wanted = {frozenset(some) for some in members.values() if len(some) > 1}
    assert wanted and {frozenset(one.id for one in alike.images) for alike in data.near_duplicates.listed} == wanted
    assert (data.near_duplicates.groups, data.near_duplicates.images) == (len(wanted), sum(map(len, wanted)))
    role = {r.id: r.role for r in kept}
    mixed = [len({role[one.id] for one in alike.images}) > 1 for alike in data.near_duplicates.listed]
    assert data.near_duplicates.across_roles == sum(mixed) and mixed == sorted(mixed, reverse=True)


def test_every_drop_is_counted_under_one_reason(known):
    data, records, _ = known
    wanted = Counter((r.drop.stage, r.drop.reason) for r in records if r.drop)
    assert {(d.stage, d.reason): d.count for d in data.dropped} == wanted
    details = {r.id: r.drop.detail for r in records if r.drop}
    assert {one.id: detail for d in data.dropped for one, detail in d.listed} == details


def test_rows_lead_to_the_records(known):
    data, records, _ = known
    named = [one for alike in data.near_duplicates.listed for one in alike.images]
    named += [one for d in data.dropped for one, _ in d.listed] + [one for one, _ in data.cropped.worst]
    assert all((records[one.row].id, records[one.row].source) == (one.id, one.source) for one in named)


def test_data_are_json(known):
    data, _, _ = known
    assert json.loads(json.dumps(dataclasses.asdict(data), allow_nan=False))["counts"]["images"] == data.counts.images


def test_a_dataset_without_images_still_lists_what_was_dropped(tmp_path):
    space, _ = make_set(tmp_path, 1)
    gone = [dataclasses.replace(record(n), crop=None, image=None, drop=Drop("crop", "tiny", str(n))) for n in range(3)]
    manifest = write_manifest(space.manifest("crop"), [sorted(gone, key=lambda r: r.id)], HISTORY[:2])
    measured = measure(manifest, space, no_progress)
    assert measured.arrays is None and measured.data.captions is None and measured.data.tags == ()
    assert [(d.reason, d.count) for d in measured.data.dropped] == [("tiny", 3)]


def test_before_merge_there_are_tags_and_no_captions(tmp_path):
    space, manifest = make_set(tmp_path, 12)
    bare = [dataclasses.replace(r, caption="") for r in manifest.records()]
    tagged = write_manifest(space.manifest("tag"), [bare], HISTORY[:3])
    data = measure(tagged, space, no_progress).data
    assert data.captions is None
    assert data.tags and all(one.in_captions == 0 for one in data.tags)


def test_the_same_over_row_groups_of_any_size(tmp_path, monkeypatch):
    import pipeline.manifest

    space, manifest = make_set(tmp_path / "one", 50)
    records = list(manifest.records())
    monkeypatch.setattr(pipeline.manifest, "ROWS", 7)
    other, again = make_set(tmp_path / "other", 50)
    assert list(again.records()) == records
    one, two = (measure(m, s, no_progress).data for m, s in ((manifest, space), (again, other)))
    assert dataclasses.replace(one, title="", digest="") == dataclasses.replace(two, title="", digest="")
