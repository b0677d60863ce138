"""The page's last sections: what was dropped and why, and how the set came to be."""

from __future__ import annotations

from typing import Any

from pipeline.history import HistoryStep
from pipeline.html.document import safe
from pipeline.options import format_value
from pipeline.registry import STAGES, TAGGERS
from pipeline.report.charts import count, table
from pipeline.report.facts import DroppedImages, ReportData
from pipeline.report.gallery import DROPPED, Gallery
from pipeline.report.image_rows import row

_HASH = 16  # hex digits of a hash that are shown; the whole hash is in its title


def drops(facts: ReportData, gallery: Gallery) -> str:
    """Every reason with its images."""
    if not facts.dropped:
        return '<section id="drops"><h2>Dropped</h2><p class="soft">Nothing was dropped.</p></section>'
    return f'<section id="drops"><h2>Dropped</h2>{"".join(_reason(one, gallery) for one in facts.dropped)}</section>'


def _reason(dropped: DroppedImages, gallery: Gallery) -> str:
    """Images that got as far as one are shown, all are named."""
    seen = [one for one, _ in dropped.listed[:DROPPED] if gallery.shown[one.row].record.image]
    rows = "".join(
        f'<tr><td class="text">{safe(one.source)}</td><td class="soft">{safe(detail)}</td></tr>'
        for one, detail in dropped.listed
    )
    left = dropped.count - len(dropped.listed)
    more = f'<p class="soft">and {left:,} more</p>' if left else ""
    return (
        f"<details><summary>{safe(dropped.reason)} <strong>{dropped.count:,}</strong> "
        f'<span class="soft">by {safe(dropped.stage)}</span></summary>'
        f"{row([(one, '') for one in seen], gallery)}{table(('image', 'why'), rows)}{more}</details>"
    )


def history(facts: ReportData, gallery: Gallery) -> str:
    """The steps that made the manifest: stages, options, models, hashes."""
    steps = "".join(_step(step) for step in facts.history)
    words = (
        f"{safe(facts.manifest)}, digest {_short(facts.digest)}: made in {count(len(facts.history), 'step')}. "
        "The same key gives the same result; options that differ from the default stand out."
    )
    return f'<section id="history"><h2>How it came to be</h2><p class="soft">{words}</p>{steps}</section>'


def _step(step: HistoryStep) -> str:
    known = {**STAGES, **TAGGERS}.get(step.stage)
    usual = {option.name: option.default for option in known.options()} if known else {}
    options = "".join(_option(name, value, usual) for name, value in step.params.items())
    models = "".join(
        f"<tr><td>{safe(model.name)}</td><td>{safe(model.revision)}</td><td>{_short(model.sha256)}</td></tr>"
        for model in step.models
    )
    libraries = ", ".join(f"{safe(name)} {safe(version)}" for name, version in step.libraries.items())
    named = f", {count(len(step.models), 'model file')}" if step.models else ""
    return (
        f'<details><summary>{safe(step.stage)} <span class="soft">version {step.version}{named}, key {_short(step.key)}'
        f'</span></summary><p class="soft">read {_short(step.input)}</p>'
        + (table(("option", "value"), options, "options") if options else "")
        + (table(("model file", "revision", "sha256"), models) if models else "")
        + (f'<p class="soft">{libraries}</p>' if libraries else "")
        + "</details>"
    )


def _option(name: str, value: Any, usual: dict[str, Any]) -> str:
    same = name in usual and format_value(value) == format_value(usual[name])
    kind = ' class="soft"' if same else ""
    return f'<tr{kind}><th scope="row">{safe(name)}</th><td class="text">{safe(format_value(value))}</td></tr>'


def _short(digest: str) -> str:
    return f'<code title="{safe(digest)}">{safe(digest[:_HASH])}</code>'
