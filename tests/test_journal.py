from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edits import Edit
from pipeline.errors import PrepError
from pipeline.journal import JOURNAL, Decision, Journal
from tests.make import workspace

HAT, CAP, GONE = Edit("add", "hat"), Edit("replace", "hat", "cap"), Edit("drop")


def said(edits, id="a"):
    return [str(edit) for edit in edits.of(id)]


def journal(place):
    return [json.loads(line) for line in (place.root / JOURNAL).read_text().splitlines()]


def test_nothing_decided_is_no_file_and_no_digest(tmp_path):
    place = workspace(tmp_path)
    edits = Journal.read(place)
    assert edits.of("a") == () and edits.digest == "" and edits.ids == ()
    assert edits.undo(place) is None and edits.redo(place) is None
    assert edits.append(place, [], [HAT]) is None and edits.append(place, ["a"], []) is None
    assert not (tmp_path / "decisions").exists()


def test_every_step_is_one_line_on_disk_at_once(tmp_path):
    place = workspace(tmp_path)
    edits = Journal.read(place)
    edits.append(place, ["b", "a", "b"], [HAT, CAP])
    edits.undo(place)
    edits.redo(place)
    assert journal(place) == [
        {
            "n": 1,
            "ids": ["b", "a"],
            "edits": [{"what": "add", "text": "hat"}, {"what": "replace", "text": "hat", "other": "cap"}],
        },
        {"n": 2, "undo": 1},
        {"n": 3, "redo": 1},
    ]
    assert said(Journal.read(place)) == said(edits) == ["add hat", "replace hat by cap"]
    assert edits.ids == ("a", "b")


def test_undo_and_redo_go_back_and_forth_without_end(tmp_path):
    place = workspace(tmp_path)
    edits = Journal.read(place)
    for n in range(50):
        edits.append(place, ["a"], [Edit("set", str(n))])
    for n in reversed(range(50)):
        assert said(edits) == [f"set {n}"]
        assert edits.undo(place).edits == (Edit("set", str(n)),)
    assert edits.undo(place) is None and edits.digest == ""
    for _ in range(50):
        edits.redo(place)
    assert said(edits) == ["set 49"] and edits.redo(place) is None
    edits.undo(place)
    edits.append(place, ["a"], [HAT])
    assert edits.redo(place) is None, "a new edit ends what can be redone"


def test_a_copy_has_the_edits_of_its_root_then_its_own(tmp_path):
    place = workspace(tmp_path)
    edits = Journal.read(place)
    edits.append(place, ["a-1"], [Edit("remove", "text")])
    edits.append(place, ["a"], [HAT])
    assert said(edits, "a") == ["add hat"]
    assert said(edits, "a-1") == ["add hat", "remove text"]
    assert said(edits, "a-2") == ["add hat"]
    edits.append(place, ["a-1"], [Edit("reset")])
    assert said(edits, "a-1") == [] and said(edits, "a") == ["add hat"]
    assert edits.ids == ("a",)


kinds = st.sampled_from(["add", "remove", "replace", "set", "reset", "flag", "unflag", "drop", "restore"])
some = st.lists(st.builds(Edit, kinds, st.sampled_from(["hat", "Hat", "cap"]), st.just("bow")), max_size=6)


@given(st.lists(st.one_of(st.tuples(st.sampled_from(["a", "a-1", "b"]), some), st.sampled_from(["undo", "redo"]))))
def test_undo_then_redo_changes_nothing_and_reading_again_gives_the_same(tmp_path_factory, steps):
    place = workspace(tmp_path_factory.mktemp("w"))
    edits = Journal.read(place)
    for step in steps:
        if isinstance(step, tuple):
            edits.append(place, [step[0]], step[1])
        else:
            getattr(edits, step)(place)
    ids = ("a", "a-1", "b")
    before, digest = [edits.of(id) for id in ids], edits.digest
    if edits.undo(place):
        edits.redo(place)
    assert [edits.of(id) for id in ids] == before and edits.digest == digest
    again = Journal.read(place)
    assert [again.of(id) for id in ids] == before and again.digest == digest


def test_the_digest_knows_effects_not_ways(tmp_path):
    one, other = workspace(tmp_path / "1"), workspace(tmp_path / "2")
    edits, others = Journal.read(one), Journal.read(other)
    edits.append(one, ["a", "b"], [HAT])
    others.append(other, ["b"], [Edit("set", "x")])
    others.undo(other)
    others.append(other, ["b"], [HAT])
    assert edits.digest != others.digest
    others.append(other, ["a"], [HAT])
    assert edits.digest == others.digest and len(edits.digest) == 64


def test_a_torn_last_line_is_ignored_with_a_warning_and_cut_off(tmp_path, caplog):
    place = workspace(tmp_path)
    path = place.root / JOURNAL
    Journal.read(place).append(place, ["a"], [HAT])
    whole = path.read_bytes()
    line = b'{"n":2,"ids":["a"],"edits":[{"what":"set","text":"long"}]}'
    for length in range(1, len(line)):
        path.write_bytes(whole + line[:length])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            edits = Journal.read(place)
        assert caplog.messages == ["decisions/edits.jsonl: the last line is incomplete and is ignored."]
        assert said(edits) == ["add hat"]
    edits.append(place, ["a"], [GONE])
    assert [entry["n"] for entry in journal(place)] == [1, 2]
    assert said(Journal.read(place)) == ["add hat", "drop"]
    path.write_bytes(whole + line)  # whole but for the newline, as some editors leave it
    edits = Journal.read(place)
    assert said(edits) == ["set long"]
    edits.append(place, ["a"], [GONE])
    assert said(edits) == said(Journal.read(place)) == ["set long", "drop"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "Expecting"),
        ("[]", "list indices"),
        ('{"n":1,"undo":1}', "does not follow 1"),
        ('{"n":2,"undo":7}', "7"),
        ('{"n":2,"redo":1}', "not in list"),
        ('{"n":2,"ids":[3],"edits":[]}', "an id is not a text"),
        ('{"n":2,"ids":["a"],"edits":[{"what":"burn"}]}', "There is no edit 'burn'."),
        ('{"n":2,"ids":["a"],"edits":[{"what":"add","text":3}]}', "'int' object"),
        ('{"n":2,"ids":["a"],"edits":[{"what":"add","text":"a\\nb"}]}', "not a single line of text"),
        ("[" * 5000, "recursion"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, why):
    place = workspace(tmp_path)
    Journal.read(place).append(place, ["a"], [HAT])
    with (place.root / JOURNAL).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(PrepError, match="the line after number 1 cannot be read") as caught:
        Journal.read(place)
    assert why in caught.value.wrong
    assert caught.value.hint == "Correct or delete that line; the others stay valid."


def test_a_journal_that_is_taken_away_meanwhile_is_noticed(tmp_path):
    place = workspace(tmp_path)
    edits = Journal.read(place)
    edits.append(place, ["a"], [HAT])
    (place.root / JOURNAL).write_text("")
    with pytest.raises(PrepError, match="shortened or deleted while prep used it"):
        edits.append(place, ["a"], [GONE])


def test_two_readers_follow_each_other(tmp_path):
    place = workspace(tmp_path)
    edits, other = Journal.read(place), Journal.read(place)
    edits.append(place, ["a"], [HAT])
    other.append(place, ["b"], [GONE])
    assert said(other) == ["add hat"]
    assert edits.follow(place) and said(edits, "b") == ["drop"]
    assert not edits.follow(place)


WRITER = """
import sys
from pathlib import Path
from pipeline.edits import Edit
from pipeline.journal import Journal
from pipeline.workspace import Workspace
place = Workspace(Path(sys.argv[1]))
edits = Journal.read(place)
for n in range(int(sys.argv[3])):
    edits.append(place, [sys.argv[2]], [Edit("flag", f"{sys.argv[2]}{n}")])
"""


def writer(place, name, count):
    return subprocess.Popen([sys.executable, "-c", WRITER, str(place.root), name, str(count)])


def test_two_processes_append_and_nothing_is_lost(tmp_path):
    place = workspace(tmp_path)
    both = [writer(place, name, 40) for name in "ab"]
    assert [one.wait(60) for one in both] == [0, 0]
    assert [line["n"] for line in journal(place)] == list(range(1, 81))
    edits = Journal.read(place)
    assert {e.text for e in edits.of("a")} == {f"a{n}" for n in range(40)}
    assert {e.text for e in edits.of("b")} == {f"b{n}" for n in range(40)}


def test_kill_9_loses_at_most_the_line_being_written(tmp_path):
    place = workspace(tmp_path)
    path = place.root / JOURNAL
    one = writer(place, "a", 100_000)
    while not path.is_file() or path.stat().st_size < 2000:
        assert one.poll() is None
        time.sleep(0.01)
    one.send_signal(signal.SIGKILL)
    one.wait(10)
    numbers = [line["n"] for line in map(json.loads, path.read_text().splitlines())]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 20
    edits = Journal.read(place)
    edits.append(place, ["b"], [GONE])  # the lock died with its holder
    assert len(edits.of("a")) == len(numbers) and said(edits, "b") == ["drop"]


def test_a_hundred_thousand_images_at_once(tmp_path):
    place = workspace(tmp_path)
    ids = [f"{n:016x}" for n in range(100_000)]
    edits = Journal.read(place)
    edits.append(place, ids, [HAT])
    assert edits.of(ids[-1]) == (HAT,) and len(edits.ids) == 100_000
    assert (place.root / JOURNAL).stat().st_size < 2_000_000


def test_many_captions_are_set_at_once_and_verbatim(tmp_path):
    home = workspace(tmp_path)
    captions = ["one\ntwo\r\n\tthree", "", "\u3000family \U0001f468\u200d\U0001f469 \\(x\\), , a ", "\u2028\x1b[2J"]
    Journal.read(home).append_each(home, (Decision(f"{n:016x}", Edit("set", text)) for n, text in enumerate(captions)))
    read = Journal.read(home)
    assert [read.of(f"{n:016x}") for n in range(4)] == [(Edit("set", text),) for text in captions]
    assert str(Edit("set", "one\ntwo")) == r"set one\ntwo"
    read.undo(home)
    assert len(Journal.read(home).ids) == 3
