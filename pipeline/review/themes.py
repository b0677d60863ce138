"""Colors and layout of the review: a dark and a light theme."""

from __future__ import annotations

from textual.theme import Theme

NIGHT = Theme(
    name="prep-night",
    primary="#8fb3d9",
    secondary="#8fc99b",
    warning="#d9a860",
    error="#d98a8a",
    success="#8fc99b",
    accent="#8fb3d9",
    foreground="#d6d9df",
    background="#15171b",
    surface="#1a1d22",
    panel="#22262d",
    dark=True,
)
PAPER = Theme(
    name="prep-paper",
    primary="#2d5f93",
    secondary="#2f7a45",
    warning="#93620f",
    error="#a33a3a",
    success="#2f7a45",
    accent="#2d5f93",
    foreground="#23262b",
    background="#f7f6f3",
    surface="#efeeea",
    panel="#e4e2dc",
    dark=False,
)
CSS = """
Screen { background: $background; color: $foreground; layers: base; }
#header { height: 1; background: $panel; }
#body { height: 1fr; }
#images { width: 28; background: $surface; }
#middle { width: 1fr; }
#tags { width: 28; background: $surface; display: none; }
.wide #images { width: 34; }
.wide #tags { display: block; width: 32; }
.tags #images { display: none; }
.tags #tags { display: block; dock: left; }
.wide.tags #tags { dock: none; }
.wide.tags #images { display: block; }
#image { height: 1fr; margin: 1 1 0 1; }
#summary { height: 1; margin: 1 2 0 2; }
#caption { height: auto; max-height: 45%; margin: 0 2 1 2; }
#status { height: 1; background: $panel; }
#images, #tags { border-top: solid $panel; border-title-color: $foreground 60%; border-title-style: none; }
VirtualList { scrollbar-color: $panel; scrollbar-background: $surface; scrollbar-color-hover: $primary; }
VirtualList > .list--item { background: $surface; }
VirtualList > .list--current { background: $panel; }
VirtualList > .list--current-focus { background: $primary 25%; }
#prompt { height: auto; max-height: 8; background: $panel; }
#label { width: auto; color: $primary; }
#short { width: 1fr; background: $surface; }
#long { width: 1fr; height: auto; max-height: 8; background: $surface; }
#error { width: auto; max-width: 50%; padding: 0 1; }
HelpScreen { align: center middle; background: $background 60%; }
#help { width: 84; max-width: 96%; height: auto; max-height: 92%; background: $panel; padding: 1 2; }
#help { scrollbar-size-vertical: 1; scrollbar-color: $primary 40%; scrollbar-background: $panel; }
"""
