from __future__ import annotations

import dataclasses
import io

import numpy as np
from rich.console import Console

from pipeline.cli import preview_output
from pipeline.edits import Edit
from pipeline.imaging.image_file import save
from pipeline.journal import Journal
from pipeline.record import Drop
from stages.merge import Merge
from stages.merging.compose import Composer
from tests import make


def shown(home, records, composer=None, rows=40, color="truecolor"):
    screen = io.StringIO()
    console = Console(file=screen, width=100, force_terminal=bool(color), color_system=color)
    console.print(preview_output.page(records, composer or Composer.of(Merge(), home), home, (100, rows)))
    return screen.getvalue()


def test_a_page_shows_the_image_and_its_details(tmp_path):
    home = make.workspace(tmp_path)
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:, :32], rgb[:, 32:] = (250, 10, 20), (30, 240, 40)
    one = make.record(1, image=save(home, rgb), caption="smith, apron")
    text = shown(home, [one])
    assert "38;2;250;10;20" in text and "48;2;30;240;40" in text
    assert "smith" in text and "apron" in text and "raw/1.jpg" in text and "20% cropped" in text


def test_what_a_caption_leaves_out_is_struck_through_with_its_reason(tmp_path):
    home = make.workspace(tmp_path)
    tags = (make.tag("hat", 0.9), make.tag("beard", 0.8), make.tag("sea", 0.1))
    composer = Composer.of(Merge(absorb=("beard",), threshold=0.35), home)
    one = make.record(1, image=None, annotations=tags)
    one = dataclasses.replace(one, caption=composer.compose(one).caption)
    text = shown(home, [one], composer)
    assert one.caption == "smith, hat" and "smith" in text and "hat" in text
    assert "\x1b[2;9mbeard" in text, "dim, struck through"
    assert "listed in absorb" in text and "sea" not in text and "would now write" not in text


def test_a_caption_that_edits_changed_since_is_shown_as_merge_would_write_it(tmp_path):
    home = make.workspace(tmp_path)
    one = make.record(1, image=None, annotations=(make.tag("hat", 0.9),), caption="smith, hat")
    Journal.read(home).append(home, [one.id], [Edit("replace", "hat", "cap")])
    assert "prep merge would now write: smith, cap" in shown(home, [one], Composer.of(Merge(), home), color=None)


def test_a_page_fits_the_terminal(tmp_path):
    home = make.workspace(tmp_path)
    tall = make.record(1, image=save(home, np.full((640, 64, 3), 9, np.uint8)))
    for rows in (16, 24, 60):
        size = preview_output.page_size(rows)
        assert shown(home, [tall] * size, rows=rows).count("\n") <= rows


def test_names_cannot_control_the_terminal(tmp_path):
    home = make.workspace(tmp_path)
    evil = make.record(1, source="raw/\x1b[2Jgone\n.png", image=None, crop=None)
    assert "\x1b[2J" not in shown(home, [evil])
    _, line = preview_output.tsv_lines(iter([evil]))
    assert "\x1b" not in line and "\n" not in line and line.count("\t") == 5


def test_tsv_lines_have_the_caption_or_the_best_tags():
    tagged = make.record(1, annotations=(make.tag("hat", 0.4), make.tag("beard", 0.9)))
    dropped = dataclasses.replace(tagged, drop=Drop("crop", "too small"))
    lines = list(preview_output.tsv_lines(iter([tagged, dropped])))
    assert lines[0].split("\t") == ["id", "role", "size", "state", "source", "caption"]
    assert lines[1].endswith("\traw/1.jpg\tbeard 0.90, hat 0.40")
    assert "\ttoo small\t" in lines[2]
