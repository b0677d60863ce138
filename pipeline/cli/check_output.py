"""Text of prep check: each finding in a few lines, and a summary."""

from __future__ import annotations

import posixpath
import textwrap
from collections.abc import Iterator

import click

from pipeline.checks.finding import NAMED, SEVERITIES, Finding, Severity
from pipeline.plural import counted
from pipeline.tag_text import escape_control

_COLORS: dict[Severity, str] = {"error": "red", "warning": "yellow", "note": "blue"}
_INDENT = " " * 10
_NO_BREAK = "\u00a0"  # a space within a file name, where lines do not break
_MIN_FOLDER = 10  # characters of a folder that is printed once instead of with every image


def finding_lines(findings: list[Finding], width: int) -> Iterator[str]:
    """Each finding in a few lines of at most `width` columns: severity and rule, message, images, hint."""
    folder = _common_folder([name for finding in findings for name in finding.images])
    if folder:
        yield from (f"Images are named relative to {escape_control(folder)}", "")
    for finding in findings:
        severity = click.style(f"{finding.severity:<10}", fg=_COLORS[finding.severity], bold=True)
        count = f"   {counted(finding.count, 'image')}" if finding.count else ""
        yield f"{severity}{click.style(finding.rule, bold=True)}{count}"
        yield from _wrapped(finding.message, width)
        if finding.images:
            names = ", ".join(escape_control(name[len(folder) :]).replace(" ", _NO_BREAK) for name in finding.images)
            more = ", ..." if finding.count > NAMED else ""
            yield from (click.style(line, dim=True) for line in _wrapped(names + more, width))
        if finding.hint:
            yield from _wrapped(finding.hint, width, "-> ")
        yield ""


def summary_line(findings: list[Finding], source: str) -> str:
    """'1 error, 2 warnings in manifests/build.parquet'."""
    counts = [(sum(finding.severity == severity for finding in findings), severity) for severity in SEVERITIES]
    total = ", ".join(counted(count, severity) for count, severity in counts if count) or "Nothing wrong"
    return f"{total} in {escape_control(source)}"


def _common_folder(names: list[str]) -> str:
    """The folder of all images, with its slash; empty if it is short or there is none."""
    shared = posixpath.commonpath([posixpath.dirname(name) for name in names]) if names else ""
    return f"{shared}/" if len(shared) > _MIN_FOLDER else ""


def _wrapped(text: str, width: int, lead: str = "") -> list[str]:
    rest = _INDENT + " " * len(lead)
    lines = textwrap.wrap(text, width, initial_indent=_INDENT + lead, subsequent_indent=rest, break_on_hyphens=False)
    return [line.replace(_NO_BREAK, " ") for line in lines]
