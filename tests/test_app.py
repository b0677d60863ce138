from __future__ import annotations

import asyncio

import pytest
from textual.widgets import Input, Static, TextArea

from pipeline.journal import Journal
from pipeline.review.app import ReviewApp
from pipeline.review.help import HelpScreen
from pipeline.review.image_widget import ImageWidget
from pipeline.review.prompt import Prompt
from pipeline.review.state import Review
from pipeline.review.terminal_image import TerminalGraphics
from pipeline.review.virtual_list import VirtualList
from tests.review_set import review_set


class Hand:
    """Drives the review, and reads what it shows."""

    def __init__(self, app, pilot):
        self.app, self.pilot = app, pilot

    async def press(self, *keys):
        await self.pilot.press(*keys)
        await self.wait()

    async def type(self, text):
        await self.press(
            *(
                {" ": "space", ",": "comma", ":": "colon", "<": "less_than_sign", ".": "full_stop"}.get(c, c)
                for c in text
            )
        )

    async def wait(self):
        for _ in range(3):
            await self.app.workers.wait_for_complete()
            await self.pilot.pause()

    def text(self, id):
        return self.app.query_one(id, Static).content.plain

    def lines(self, id="#images"):
        rows = self.app.query_one(id, VirtualList)
        return [rows.render_item(n, 28).plain for n in range(rows.count)]

    @property
    def screen(self):
        return [str(line.text) for line in self.app.screen._compositor.render_strips()]

    def journal(self):
        """All edits that are on disk, by file name."""
        place = self.app.review.workspace
        edits = Journal.read(place)
        return {
            r.source.removeprefix("raw/") + r.id[16:]: [str(e) for e in found]
            for r in self.app.review.table.records
            if (found := edits.of(r.id))
        }


def drive(folder, script, size=(80, 24), count=6):
    async def main():
        place = review_set(folder, count)
        app = ReviewApp(Review.open(place), TerminalGraphics("blocks"))
        async with app.run_test(size=size) as pilot:
            hand = Hand(app, pilot)
            await hand.wait()
            await script(hand)

    asyncio.run(main())


def test_it_shows_the_image_its_caption_and_what_is_left_out(tmp_path):
    async def script(hand):
        assert hand.text("#header").split() == ["prep", "review", tmp_path.name, "1", "of", "6"]
        assert len(hand.lines()) == 6 and "  copy 1 of 1.jpg" in hand.lines()[-1] + "".join(hand.lines())
        first = hand.app.review.record
        assert hand.text("#summary").startswith(first.source[4:] + "  smith")
        assert hand.text("#caption").startswith("smith")
        assert "1boy  beard  listed in absorb" in hand.text("#caption")
        assert "of 75 tokens" in hand.text("#caption")
        image = hand.app.query_one(ImageWidget)
        red, blue = image.image.blocks[0][0], image.image.blocks[0][-1]
        assert red[0] > 200 and blue[0] == 0
        assert all(len(line) == 80 for line in hand.screen) and len(hand.screen) == 24

    drive(tmp_path, script)


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (200, 60), (112, 30)])
def test_every_size_has_a_header_a_list_and_a_status_line(tmp_path, size):
    async def script(hand):
        assert hand.screen[0].startswith(" prep review")
        assert "? help" in hand.screen[-1] and hand.screen[-1].startswith(" / filter")
        assert hand.app.query_one("#tags").display == (size[0] >= 112)
        await hand.press("question_mark")
        assert isinstance(hand.app.screen, HelpScreen)
        await hand.press("escape")
        assert not isinstance(hand.app.screen, HelpScreen)

    drive(tmp_path, script, size)


def test_moving(tmp_path):
    async def script(hand):
        review = hand.app.review
        for key, at in (
            ("down", 1),
            ("j", 2),
            ("k", 1),
            ("end", 5),
            ("down", 5),
            ("home", 0),
            ("up", 0),
            ("pagedown", 5),
        ):
            await hand.press(key)
            assert review.position == hand.app.query_one("#images", VirtualList).position == at, key
            assert hand.text("#summary").startswith(review.record.source[4:])
        await hand.pilot.click("#images", offset=(3, 3))  # below the header of the list
        await hand.wait()
        assert review.position == 2

    drive(tmp_path, script)


def test_add_remove_replace_and_write_by_hand(tmp_path):
    async def script(hand):
        await hand.press("slash")
        await hand.type("name:4")
        await hand.press("enter")
        await hand.press("a")
        assert hand.screen[-2].startswith(" add to this image ")
        await hand.type("bow, long cape")
        await hand.press("enter")
        assert hand.journal() == {"4.jpg": ["add bow", "add long cape"]}, "on disk at once"
        assert hand.text("#status") == " add bow; add long cape \u00b7 1 image"
        assert hand.text("#caption").startswith("smith, bow, long cape, apron, hat")
        await hand.press("r")
        await hand.type("hat")
        await hand.press("enter")
        await hand.press("p")
        await hand.type("hammer")
        await hand.press("enter")
        assert hand.screen[-2].startswith(" replace hammer by ")
        await hand.type("axe")
        await hand.press("enter")
        assert hand.journal()["4.jpg"] == ["add bow", "add long cape", "remove hat", "replace hammer by axe"]
        assert "axe" in hand.text("#caption") and "hat  removed by hand" in hand.text("#caption")
        await hand.press("e")
        writing = hand.app.query_one("#long", TextArea)
        assert writing.text.startswith("smith, bow, long cape, apron")
        await hand.press("ctrl+a", "delete")
        writing.text = ""
        await hand.type("a smith, by hand")
        await hand.press("enter")
        assert hand.journal() == {"4.jpg": ["set a smith, by hand"]}
        assert hand.text("#caption").startswith("a smith, by hand\nwritten by hand")
        await hand.press("x")
        assert hand.journal() == {}
        for _ in range(5):
            await hand.press("u")
        assert hand.text("#status") == " undone: add bow; add long cape \u00b7 1 image"
        await hand.press("u")
        assert hand.text("#status") == " There is nothing to undo."
        await hand.press("U", "U")
        assert hand.journal()["4.jpg"] == ["add bow", "add long cape", "remove hat"]

    drive(tmp_path, script)


def test_edits_of_all_that_a_filter_matches(tmp_path):
    async def script(hand):
        await hand.press("slash")
        await hand.type("hammer NOT hat")
        await hand.press("enter")
        assert hand.text("#header").endswith("hammer AND NOT hat   1 of 2 (6 in all)")
        shown = {line.split()[0] for line in hand.lines()}
        assert shown == {"2.jpg", "3.jpg"}
        await hand.press("asterisk", "r")
        assert hand.screen[-2].startswith(" remove from 2 selected images ")
        await hand.type("ham")
        assert hand.app.query_one("#short", Input)._suggestion == "hammer"
        await hand.press("right", "enter")
        assert hand.journal() == {name: ["remove hammer"] for name in shown}
        await hand.press("f")
        assert all("\u2691" in line for line in hand.lines())
        await hand.press("f", "d")
        assert hand.journal() == {name: ["remove hammer", "drop"] for name in shown}
        await hand.press("d", "u", "u")
        await hand.press("escape")
        assert not hand.app.review.selected and hand.app.review.filter.part
        await hand.press("escape")
        assert len(hand.lines()) == 6

    drive(tmp_path, script)


def test_selecting_one_by_one(tmp_path):
    async def script(hand):
        await hand.press("space", "down", "space")
        assert [line.startswith("\u2713") for line in hand.lines()] == [True, False, True, False, False, False]
        assert "\u2713 2 selected" in hand.text("#header")
        await hand.press("up", "space")
        assert sorted(hand.app.review.selected) == [int(hand.app.review.rows[0])]

    drive(tmp_path, script)


def test_tags_are_counted_filter_and_offer_themselves(tmp_path):
    async def script(hand):
        assert [line.split() for line in hand.lines("#tags")][:3] == [["1boy", "6"], ["beard", "6"], ["apron", "5"]]
        await hand.press("t")
        assert hand.app.query_one("#tags").has_focus and not hand.app.query_one("#images").display
        await hand.press("down", "down", "enter")
        assert str(hand.app.review.filter) == "apron" and hand.app.review.rows.size == 5
        await hand.press("enter")
        assert hand.app.review.filter.part is None
        await hand.press("r")
        assert hand.app.query_one("#short", Input).value == "apron"
        await hand.press("escape")
        assert hand.app.query_one("#tags").has_focus
        await hand.press("t")
        assert hand.app.query_one("#images").has_focus and hand.journal() == {}

    drive(tmp_path, script)


def test_an_invalid_filter_is_reported_while_it_is_typed_and_nothing_is_lost(tmp_path):
    async def script(hand):
        await hand.press("slash")
        await hand.type("role:boss")
        assert hand.text("#error") == "there is no role 'boss'."
        await hand.press("enter")
        assert hand.app.query_one(Prompt).display and hand.app.query_one("#short", Input).value == "role:boss"
        await hand.press("escape")
        assert not hand.app.query_one(Prompt).display and hand.app.review.filter.part is None
        await hand.press("a", "space", "enter")
        assert hand.journal() == {}
        await hand.press("p", "h", "enter", "escape")
        assert hand.journal() == {}

    drive(tmp_path, script)


def test_a_filter_that_matches_nothing(tmp_path):
    async def script(hand):
        await hand.press("slash")
        await hand.type("nothing")
        await hand.press("enter")
        assert hand.screen[2].strip().startswith("no image matches")
        for key in ("a", "x", "f", "d", "e", "space", "asterisk", "down"):
            await hand.press(key)
            await hand.press("escape") if hand.app.query_one(Prompt).display else None
        assert hand.journal() == {}

    drive(tmp_path, script)


def test_an_image_whose_file_is_gone(tmp_path):
    async def script(hand):
        path = hand.app.review.workspace.path(hand.app.review.record.image.path)
        path.unlink()
        hand.app.query_one(ImageWidget).render_cached.cache_clear()
        hand.app.show_current()
        await hand.wait()
        assert any("image file missing" in line for line in hand.screen)
        path.write_bytes(b"no image")
        hand.app.show_current()
        await hand.wait()
        assert hand.app.query_one(ImageWidget).image is None

    drive(tmp_path, script)


def test_a_graphics_protocol_draws_over_blank_lines_and_erases_below_the_help(tmp_path, monkeypatch):
    async def main():
        app = ReviewApp(Review.open(review_set(tmp_path)), TerminalGraphics("kitty", (10, 20)))
        sent = []
        async with app.run_test(size=(80, 24)) as pilot:
            hand = Hand(app, pilot)
            monkeypatch.setattr(app.query_one(ImageWidget), "send", sent.append)
            await hand.press("down")
            widget = app.query_one(ImageWidget)
            left, top = widget.corner
            place = f"\x1b7\x1b[{widget.region.y + top + 1};{widget.region.x + left + 1}H\x1b_G"
            assert sent[-1].startswith(place) and sent[-1].endswith("\x1b8")
            assert not any("\u2580" in line for line in hand.screen)
            await hand.press("question_mark")
            assert sent[-1] == "\x1b_Ga=d,d=I,i=7309,q=2\x1b\\"
            await hand.press("escape")
            assert sent[-1].startswith(place)

    asyncio.run(main())


def test_light_and_dark(tmp_path):
    async def script(hand):
        dark = hand.app.theme
        await hand.press("l")
        assert (dark, hand.app.theme) == ("prep-night", "prep-paper")
        await hand.press("l")
        assert hand.app.theme == dark

    drive(tmp_path, script)


def test_a_list_renders_only_visible_lines(tmp_path):
    async def script(hand):
        rows = hand.app.query_one("#images", VirtualList)
        drawn = []
        line = rows.render_item
        rows.render_item = lambda n, width: drawn.append(n) or line(n, width)
        rows.line_count = rows.count
        await hand.press("end")
        assert hand.app.review.position == 300 and len(set(drawn)) <= 2 * 24

    drive(tmp_path, script, count=301)


def test_the_lists_have_headers_and_the_order_changes_by_a_key(tmp_path):
    async def script(hand):
        names = [line.split()[0] for line in hand.lines() if "copy" not in line]
        assert names == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"], "by number, whatever the ids are"
        assert "images by name" in hand.screen[1] and "tags, and their images" in hand.screen[1]
        await hand.press("down", "down", "down", "o")
        assert hand.app.review.order == "score" and hand.app.review.record.source == "raw/2.jpg"
        assert "images by score" in hand.screen[1]
        assert hand.lines()[0].split()[0] == "2.jpg", "its hammer has 0.42"

    drive(tmp_path, script, (120, 30))


def test_tab_accepts_a_completion_and_never_leaves_the_prompt(tmp_path):
    async def script(hand):
        await hand.press("a")
        await hand.type("lo")
        await hand.press("tab")
        assert hand.app.query_one("#short", Input).value == "long hair"
        await hand.press("tab")
        assert hand.app.query_one("#short", Input).has_focus
        await hand.press("escape", "e", "tab")
        assert hand.app.query_one("#long", TextArea).has_focus

    drive(tmp_path, script)


@pytest.mark.parametrize(
    ("keys", "place", "caption"),
    [
        ((), "with the tags", "smith, wig, apron, hat"),
        (("down",), "at the front", "wig, smith, apron, hat"),
        (("down", "down"), "after the trigger", "smith, wig, apron, hat"),
        (("up",), "at the end", "smith, apron, hat"),
    ],
)
def test_adding_asks_where(tmp_path, keys, place, caption):
    async def script(hand):
        await hand.press("slash")
        await hand.type("name:4")
        await hand.press("enter", "a", *keys)
        assert f"add to this image \u2195 {place}" in hand.screen[-2]
        await hand.type("wig")
        await hand.press("enter")
        assert hand.text("#caption").startswith(caption)
        before, _, after = hand.text("#caption").partition("\n")[0].partition("wig")
        assert (not before, not after) == (place == "at the front", place == "at the end")

    drive(tmp_path, script)


def test_a_filter_without_an_image_names_similar_tags(tmp_path):
    async def script(hand):
        await hand.press("slash")
        await hand.type("hammr")
        await hand.press("enter")
        assert hand.text("#status") == " No image matches. Similar tags: hammer."
        await hand.press("slash", "ctrl+u")
        await hand.type("long hair")
        await hand.press("enter")
        assert '"long hair"   1 of ' in hand.text("#header"), "two words that are one tag"

    drive(tmp_path, script)
