from __future__ import annotations

import os

import pytest

from pipeline.link import link


def test_a_file_is_in_two_places_and_takes_its_room_once(tmp_path):
    (tmp_path / "a").write_bytes(b"image")
    link(tmp_path / "a", tmp_path / "deep" / "b")
    assert (tmp_path / "deep" / "b").samefile(tmp_path / "a")


def test_where_links_are_not_to_be_had_it_is_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_bytes(b"image" * 400_000)
    link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert not (tmp_path / "b").samefile(tmp_path / "a")
    with pytest.raises(FileExistsError):
        link(tmp_path / "a", tmp_path / "b")


def test_nothing_is_overwritten_and_nothing_is_made_of_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        link(tmp_path / "a", tmp_path / "b")
    with pytest.raises(FileNotFoundError):
        link(tmp_path / "gone", tmp_path / "c")
    assert (tmp_path / "b").read_bytes() == b"old" and not (tmp_path / "c").exists()
