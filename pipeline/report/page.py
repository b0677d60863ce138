"""The page of `prep report`: which sections it has, and the data their templates get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.clip_tokens import WINDOW
from pipeline.html.document import HtmlPage, check_overwrite, write_page
from pipeline.manifest import Manifest
from pipeline.record import ROLE_NAMES
from pipeline.report.data import ReportData
from pipeline.report.gallery import DROPPED, GROUPS, Gallery, build_gallery
from pipeline.report.measure import MeasuredDataset, measure
from pipeline.report.provenance import recorded_steps
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace

COMMAND = "prep report"
SORT_KEYS = {  # of the contact sheet: data attribute, with - for descending
    "": "subject",
    "name": "name",
    "-tokens": "longest caption first",
    "-cropped": "most cropped first",
    "-upscale": "most upscaled first",
    "sharpness": "least sharp first",
}


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the page; its template is sections/ID.html.jinja."""

    id: str
    heading: str
    has_content: Callable[[ReportData], bool] = lambda data: True


SECTIONS = (
    Section("dataset", "Dataset"),
    Section("images", "Images", lambda data: data.counts.images > 0),
    Section("tags", "Tags", lambda data: bool(data.tags)),
    Section("subjects", "Tags by subject", lambda data: any(data.associations.values())),
    Section("captions", "Captions", lambda data: data.captions is not None or data.unreadable > 0),
    Section("sizes", "Sizes and cropping", lambda data: bool(data.buckets)),
    Section("quality", "Sharpness and resolution", lambda data: data.counts.images > 0),
    Section("near-duplicates", "Near-duplicates", lambda data: data.counts.images > 0),
    Section("clip", "CLIP similarity", lambda data: data.clip is not None),
    Section("dropped", "Dropped"),
    Section("history", "History"),
)


def report_page(data: ReportData, gallery: Gallery) -> HtmlPage:
    """The page, with the sections that have content."""
    from jinja2 import PackageLoader

    return HtmlPage(
        command=COMMAND,
        title=f"{data.title}: dataset after {data.stage}",
        templates=PackageLoader("pipeline.report"),
        template="report.html.jinja",
        data={
            "data": data,
            "gallery": gallery,
            "sections": [section for section in SECTIONS if section.has_content(data)],
            "steps": recorded_steps(data.history),
            "roles": ROLE_NAMES,
            "sort_keys": SORT_KEYS,
            "shown_groups": GROUPS,
            "shown_dropped": DROPPED,
            "window": WINDOW,
        },
        style="report.css",
        script="report.js",
    )


def write_report(
    manifest: Manifest, workspace: Workspace, path: Path, limit: int, progress: ProgressFn
) -> MeasuredDataset:
    """Measure a manifest and write its page, with at most `limit` images on the contact sheet."""
    check_overwrite(path, COMMAND)
    measured = measure(manifest, workspace, progress)
    gallery = build_gallery(manifest, workspace, measured, limit, progress)
    write_page(path, report_page(measured.data, gallery))
    return measured
