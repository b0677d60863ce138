"""The command review."""

from __future__ import annotations

import os
import sys
from typing import get_args

import click

from pipeline.cli.outdated import outdated_tags, warn_outdated
from pipeline.cli.run_options import sort_option, workspace_here
from pipeline.errors import PrepError
from pipeline.review.terminal_graphics import detect
from pipeline.review.terminal_image import Protocol


@click.command()
@click.option(
    "--images",
    type=click.Choice(["auto", *get_args(Protocol)]),
    default="auto",
    help="Graphics protocol of the terminal; auto detects it, blocks works everywhere.  [auto]",
)
@sort_option()
def review(images: str, order: str) -> None:
    """Review images and captions, and edit them.

    A full-screen application; press ? for its keys. Every edit is saved at once, in
    decisions/edits.jsonl, can be undone at any time, and is kept when images are tagged again;
    prep merge applies the edits to the captions.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise PrepError("prep review needs a terminal.", "In scripts use prep edit to edit and prep preview to print.")
    from pipeline.review.app import ReviewApp
    from pipeline.review.state import Review

    state = Review.open(workspace_here(), order)
    warn_outdated(outdated_tags(state.workspace), "What was tagged")
    protocol = next((known for known in get_args(Protocol) if known == images), None)
    before = state.edits.digest
    ReviewApp(state, detect(os.environ, protocol)).run()
    if state.edits.digest != before:
        click.echo(f"{len(state.edits.ids):,} images have edits. next: prep merge")
