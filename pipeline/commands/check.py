"""prep check: what is wrong with what would be trained on, for people and machines."""

from __future__ import annotations

import posixpath
import textwrap
from collections.abc import Iterator

import click

from pipeline.checks.finding import NAMED, SEVERITIES, Finding, Severity
from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.stage import ProgressFn
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace

_COLORS: dict[Severity, str] = {"error": "red", "warning": "yellow", "note": "blue"}
_INDENT = " " * 10
_LATEST = ("build", "merge")
_JOINT = "\u00a0"  # a space within a name: lines do not break there
_LONG = 10  # letters of a folder that are not worth repeating


def latest_manifest(workspace: Workspace) -> Manifest:
    """What would be trained on: build's manifest, or else merge's; PrepError when there is neither."""
    for name in _LATEST:
        if workspace.manifest(name).is_file():
            return Manifest.read(workspace.manifest(name))
    raise PrepError("There are no captions to check yet.", "First: prep merge")


def score_captions(manifest: Manifest, workspace: Workspace, model: str, report: ProgressFn) -> None:
    """Let the CLIP model that saw a set's images read its captions, so that the rules know how well they fit.

    `model` is a folder or hub id, or ARCHITECTURE=FILE. PrepError when it is not the one that saw the images.
    """
    from pipeline.checks.caption_vectors import embed_captions, find_caption_model

    name, _, pretrained = model.partition("=")
    embed_captions(manifest, workspace, find_caption_model(manifest, workspace, name, pretrained), report)


def lines(findings: list[Finding], width: int) -> Iterator[str]:
    """Each finding in a few lines of at most `width` columns: severity and rule, message, images, fix."""
    home = _home([name for finding in findings for name in finding.images])
    if home:
        yield from (f"Images are named from {escape_control(home)} on.", "")
    for finding in findings:
        severity = click.style(f"{finding.severity:<10}", fg=_COLORS[finding.severity], bold=True)
        count = f"   {_counted(finding.count, 'image')}" if finding.count else ""
        yield f"{severity}{click.style(finding.rule, bold=True)}{count}"
        yield from _wrapped(finding.message, width)
        if finding.images:
            named = ", ".join(escape_control(name[len(home) :]).replace(" ", _JOINT) for name in finding.images)
            more = finding.count > NAMED
            yield from (click.style(line, dim=True) for line in _wrapped(named + ", ..." * more, width))
        if finding.hint:
            yield from _wrapped(finding.hint, width, "-> ")
        yield ""


def summary(findings: list[Finding], what: str) -> str:
    """'1 error, 2 warnings in manifests/build.parquet'."""
    counts = [(sum(finding.severity == severity for finding in findings), severity) for severity in SEVERITIES]
    told = ", ".join(_counted(count, severity) for count, severity in counts if count) or "Nothing wrong"
    return f"{told} in {escape_control(what)}"


def _home(names: list[str]) -> str:
    """The folder, with its slash, in which all the images lie, where that spares much reading."""
    shared = posixpath.commonpath([posixpath.dirname(name) for name in names]) if names else ""
    return f"{shared}/" if len(shared) > _LONG else ""


def _wrapped(text: str, width: int, lead: str = "") -> list[str]:
    rest = _INDENT + " " * len(lead)
    lines = textwrap.wrap(text, width, initial_indent=_INDENT + lead, subsequent_indent=rest, break_on_hyphens=False)
    return [line.replace(_JOINT, " ") for line in lines]


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
