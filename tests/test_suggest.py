from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import PrepError
from pipeline.workspace import Workspace
from stages.merge import Merge
from stages.merging.suggest import SuggestOptions, suggest_plan
from tests.make import record, tag
from tests.worked_table import TABLE, list_of_tags, manifest, records


@pytest.fixture
def home(tmp_path):
    list_of_tags(tmp_path / "selected_tags.csv")
    return Workspace(tmp_path)


def plan(home, rows, merge=None, **how):
    how.setdefault("tag_counts", "selected_tags.csv")
    source = manifest(home.root / "tag.parquet", rows)
    return suggest_plan(SuggestOptions(**how), merge or Merge(), source, home)


def by_tag(found):
    return {row.tag: row for row in found.rows}


def test_the_worked_table_from_manifest_to_plan(home):
    """Every number to the table's digits, and what prep does about it."""
    rows = by_tag(plan(home, records()))
    assert len(rows) == len(TABLE)
    for name, coverage, share, _, pmi, z, action in TABLE:
        row = rows[name.replace("_", " ")]
        assert (row.count, row.coverage) == (round(coverage * 25), coverage)
        assert row.prior == pytest.approx(share, abs=1e-7)
        assert (f"{row.pmi:.2f}", f"{row.z:.{len(z.partition('.')[2])}f}") == (pmi, z)
        assert row.action == action, row


def test_every_row_says_why_in_words(home):
    rows = by_tag(plan(home, records()))
    assert rows["fox ears"].reason == "37.7 times as often"
    assert rows["long hair"].reason == "a part of the body"
    assert rows["simple background"].reason == "background: stays changeable"
    assert rows["1girl"].action == "review" and rows["1girl"].reason == "what it is, always"
    assert rows["white shirt"].reason == "below 50%"
    assert rows["mole under eye"].reason == "24.1 times as often, but below 60%"


def test_what_a_subject_is_is_asked_about_only_where_nearly_all_images_say_so(home):
    for without, action in ((1, "review"), (2, "keep")):  # 24 of 25 are 96 %, 23 are 92 %
        said = [
            replace(one, annotations=tuple(a for a in one.annotations if number >= without or a.text != "1girl"))
            for number, one in enumerate(records())
        ]
        assert by_tag(plan(home, said))["1girl"].action == action
    assert by_tag(plan(home, records()))["solo"].reason == "people count: stays changeable"


def test_thresholds_are_options(home):
    assert by_tag(plan(home, records(), min_coverage=0.5))["mole under eye"].action == "absorb"
    assert by_tag(plan(home, records(), min_pmi=4.6))["two side up"].action == "absorb"  # a feature: PMI is waived
    assert by_tag(plan(home, records(), min_pmi=4.6))["red ribbon"].action == "keep"
    doubtful = by_tag(plan(home, records(), min_z=7))["blonde hair"]
    assert doubtful.action == "review" and doubtful.reason.endswith("times as often: may be chance")
    assert by_tag(plan(home, records(), min_z=7, min_pmi=4.6))["blonde hair"].action == "keep"
    assert by_tag(plan(home, records(), review_coverage=0.4))["school uniform"].action == "review"
    assert by_tag(plan(home, records(), min_coverage=0.64))["two side up"].action == "absorb"  # the bound itself passes
    with pytest.raises(PrepError, match=r"review-coverage is 0\.7, above min-coverage"):
        SuggestOptions(review_coverage=0.7)


def test_augmented_copies_and_near_duplicates_count_once(home):
    once = plan(home, records())
    copies = plan(home, records(copies=3))
    assert copies.rows == once.rows
    assert copies.notes[0].startswith("smith: 25 images (100 with copies and near-duplicates).")
    first = records()[0]
    near = [
        replace(first, id=f"{n:016x}", image=replace(first.image, phash=f"{int(first.image.phash, 16) ^ 7:016x}"))
        for n in range(10)
    ]
    assert plan(home, records() + near).rows == once.rows
    assert (
        by_tag(plan(home, records() + near, near_duplicate_bits=0))["1girl"].count == 26
    )  # equal hashes always count once


def test_a_regularization_set_is_the_better_prior(home):
    """What is as common among other images of the class is not the subject's, whatever the world says."""
    alongside = [
        record(n, subject="", role="reg", annotations=(tag("fox_ears"), tag("blonde_hair"))) for n in range(100, 150)
    ]
    rows = by_tag(plan(home, records() + alongside))
    assert rows["fox ears"].action == "keep" and rows["fox ears"].pmi < 0
    assert rows["blue eyes"].action == "absorb" and rows["blue eyes"].prior == pytest.approx(2.075 / 60, abs=1e-6)
    other = [replace(r, class_name="dog") for r in alongside]
    assert by_tag(plan(home, records() + other))["fox ears"].action == "absorb"  # another class tells nothing


def test_without_any_prior_only_coverage_counts(home):
    found = plan(home, records(), tag_counts="")
    rows = by_tag(found)
    assert {row.pmi for row in found.rows} == {None}
    assert rows["fox ears"].action == "review"
    assert rows["fox ears"].reason == "frequency elsewhere not known"
    assert rows["mole under eye"].action == "keep"
    assert rows["smile"].action == "keep"  # protected all the same
    assert found.notes == ("smith: 25 images. How often other images have these tags is not known: --tag-counts FILE",)


def test_an_exclusive_group_asks(home):
    """Blonde in all, and red in 5 of 25: which is the subject's?"""
    rows = [replace(r, annotations=(*r.annotations, tag("red_hair"))) if n < 5 else r for n, r in enumerate(records())]
    found = by_tag(plan(home, rows))
    assert found["blonde hair"].action == "review"
    assert found["blonde hair"].reason == "hair color: also red hair"
    assert found["blue eyes"].action == "absorb"
    assert by_tag(plan(home, rows, conflict_share=0.21))["blonde hair"].action == "absorb"


def test_what_an_absorbed_tag_implies_goes_too(home):
    def with_ribbon(rows, every):
        return [replace(r, annotations=(*r.annotations, tag("ribbon"))) if n < every else r for n, r in enumerate(rows)]

    rows = sorted(records(), key=lambda r: -len(r.annotations))
    found = by_tag(plan(home, with_ribbon(rows, 22)))  # hair ribbon: 21 of 25
    assert (found["ribbon"].action, found["ribbon"].reason) == ("drop", "implied by hair ribbon")
    low = by_tag(plan(home, with_ribbon(rows, 20), min_coverage=0.86))  # no ribbon is absorbed
    assert (low["ribbon"].action, low["ribbon"].reason) == ("keep", "below 86%")
    often = [replace(r, annotations=tuple(a for a in r.annotations if a.text != "hair_ribbon")) for r in rows]
    asked = by_tag(plan(home, with_ribbon(often, 25)))  # red ribbon: 17 of 25
    assert asked["ribbon"].reason == "implied by red ribbon, but also without it"
    assert asked["ribbon"].action == "review"


def test_the_recipes_own_list_comes_first(home):
    found = by_tag(plan(home, records(), Merge(absorb=("smith=smile", "anna=solo"))))
    assert (found["smile"].action, found["smile"].reason) == ("absorb", "listed in absorb")
    assert found["solo"].action == "keep"


def test_tags_are_counted_as_captions_write_them(home):
    merge = Merge(replace=("fox_ears=kitsune ears",), remove=("solo",), threshold=0.95)
    assert by_tag(plan(home, records(), merge)) == {}
    merge = replace(merge, threshold=0.5)
    rows = by_tag(plan(home, records(), merge))
    assert "fox ears" not in rows and "solo" not in rows
    assert rows["kitsune ears"].pmi == pytest.approx(5.24, abs=0.005)  # its count is renamed with it


def test_each_subject_has_its_own_plan(home):
    anna = [record(n, subject="anna", class_name="woman", annotations=(tag("hat"),)) for n in range(100, 103)]
    found = plan(home, records() + anna)
    assert [row.tag for row in found.rows if row.subject == "anna"] == ["hat"]
    assert len([row for row in found.rows if row.subject == "smith"]) == len(TABLE)
    reported = f"7,182,544 posts counted in {home.root.name}/selected_tags.csv"
    assert found.notes == (
        f"anna: 3 images. Compared with: {reported}.",
        f"smith: 25 images. Compared with: {reported}.",
    )
