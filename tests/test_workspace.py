from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PrepError
from pipeline.workspace import Workspace, safe_name, write_atomic
from tests import make


def test_a_workspace_is_found_from_any_folder_below(tmp_path):
    home = make.workspace(tmp_path / "smith")
    deep = home.root / "raw" / "a" / "b"
    deep.mkdir(parents=True)
    assert Workspace.find(deep) == home == Workspace.find(home.root)
    with pytest.raises(PrepError, match="not inside a prep workspace"):
        Workspace.find(tmp_path)


def test_a_write_is_whole_or_not_at_all(tmp_path, monkeypatch):
    place = tmp_path / "deep" / "file"
    write_atomic(place, b"first")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(place, b"second")
    assert place.read_bytes() == b"first"
    assert os.listdir(place.parent) == ["file"]  # noqa: PTH208  # hidden files too


def test_the_sweep_takes_what_a_kill_left_and_nothing_else(tmp_path):
    home = make.workspace(tmp_path)
    left = ["images/ab/.x.tmp", "manifests/.x.tmp", "manifests/.parts/crop-1/.x.tmp", "cache/latents/ab/.x.tmp"]
    stays = ["images/ab/x.png", "raw/.x.tmp", "dataset/.x.tmp", "x.tmp"]
    for name in left + stays:
        path = home.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    home.sweep()
    assert [name for name in left + stays if (home.root / name).exists()] == stays


def test_the_lock_is_for_one_and_comes_free(tmp_path):
    home = make.workspace(tmp_path)
    with home.lock(), pytest.raises(PrepError, match="Another prep command"), home.lock():
        pass
    with home.lock():
        pass


@given(st.text(max_size=50))
def test_a_safe_name_is_safe_and_stays(text):
    name = safe_name(text)
    assert re.fullmatch(r"[^\W_]+(-[^\W_]+)*", "".join(char for char in name if not is_mark(char)))
    assert not {"_", "/", "\\", ":", ".", " "} & set(name)
    assert name.isprintable()
    assert name == name.lower() == unicodedata.normalize("NFC", name)
    assert safe_name(name) == name


def is_mark(char):
    return unicodedata.category(char) in ("Mn", "Mc", "Me")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("猫 正面", "猫-正面"),
        ("Eileen à gauche", "eileen-à-gauche"),
        ("Eileen a\u0300 gauche", "eileen-à-gauche"),  # as macOS stores it
        ("Ёлка_2", "ёлка-2"),
        ("हिन्दी", "हिन्दी"),
        ("ＡＢ１", "ab1"),
        ("../a\\b:c", "a-b-c"),
        ("\udcff🐱", "x"),
    ],
)
def test_a_safe_name_stays_readable(text, name):
    assert safe_name(text) == name
