"""The page of `prep compare`: one HTML file with the images inside and no script."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.html import document
from pipeline.html.document import HtmlPage
from pipeline.html.thumbnails import Thumbnail, thumbnail
from pipeline.record import Annotation
from pipeline.report.compare import MARKS, Comparison, agreement_counts, measure_text, score_text
from pipeline.tag_text import format_tag
from pipeline.workspace import Workspace

_COMMAND = "prep compare"
_SIDE = 448  # pixels of an image's longer side: twice its size on the page, for high-density screens


@dataclass(frozen=True, slots=True)
class ComparedImage:
    """One comparison as the page shows it."""

    comparison: Comparison
    thumbnail: Thumbnail | None

    @property
    def name(self) -> str:
        return self.comparison.record.source.rpartition("/")[2]

    @property
    def counts(self) -> str:
        """How many tags all taggers, several or one predict; empty if there is none."""
        return agreement_counts(self.comparison.tags) if self.comparison.tags else ""

    @property
    def scores(self) -> list[str]:
        """The measures with a score, as 'sharpness 0.98'."""
        return [measure_text(a) for a in self.comparison.measures if a.score is not None]

    @property
    def faults(self) -> list[Annotation]:
        """The measures without a score, such as a caption file that cannot be read."""
        return [a for a in self.comparison.measures if a.score is None]


def write_page(path: Path, comparisons: Iterable[Comparison], workspace: Workspace, threshold: str) -> int:
    """Write the page and return its number of images; PrepError if `path` is a file that prep did not write."""
    document.check_overwrite(path, _COMMAND)
    images = [compared_image(comparison, workspace) for comparison in comparisons]
    document.write_page(path, compare_page(images, workspace.root.name, threshold))
    return len(images)


def compared_image(comparison: Comparison, workspace: Workspace) -> ComparedImage:
    """A comparison with its thumbnail."""
    image = comparison.record.image
    return ComparedImage(comparison, thumbnail(image, workspace, _SIDE) if image else None)


def compare_page(images: list[ComparedImage], title: str, threshold: str) -> HtmlPage:
    """The page; `threshold` says what a score must reach, as '0.35'."""
    from jinja2 import PackageLoader

    return HtmlPage(
        command=_COMMAND,
        title=f"{title}: taggers compared",
        templates=PackageLoader("pipeline.report"),
        template="compare.html.jinja",
        data={
            "name": title,
            "threshold": threshold,
            "images": images,
            "marks": MARKS,
            "format_tag": format_tag,
            "score_text": score_text,
        },
        style="compare.css",
    )
