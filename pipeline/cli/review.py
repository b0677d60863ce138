"""The command review."""

from __future__ import annotations

import os
import sys

import click

from pipeline.cli.run_options import workspace_here
from pipeline.errors import PrepError


@click.command()
@click.option(
    "--images",
    type=click.Choice(["auto", "kitty", "iterm2", "sixel", "blocks"]),
    default="auto",
    help="How the terminal shows images; auto asks it.  [auto]",
)
def review(images: str) -> None:
    """Review images and captions, and edit them.

    A full-screen application, all by keys; ? lists them. Every decision is in decisions/edits.jsonl
    at once, can be undone without end, and survives tagging anew; prep merge applies it.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise PrepError("prep review needs a terminal.", "In scripts use prep edit to edit and prep preview to print.")
    from pipeline.review import terminal_image as drawing
    from pipeline.review.state import Review

    state = Review.open(workspace_here())
    screen = drawing.detect(os.environ) if images == "auto" else drawing.TerminalGraphics(images)  # type: ignore[arg-type]
    before = state.edits.digest
    from pipeline.review.app import ReviewApp

    ReviewApp(state, screen).run()
    if state.edits.digest != before:
        click.echo(f"{len(state.edits.ids):,} images have edits. next: prep merge")
