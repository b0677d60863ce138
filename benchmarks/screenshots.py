"""Makes the README's screenshots: prep review and prep report on the demo's dataset, in a headless Chromium.

    python -m benchmarks.screenshots [FOLDER]

FOLDER is where the PNG files go, by default sample_data/screenshots. Nothing is trained, so it takes half a minute.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.commands.demo import create_demo
from pipeline.review.app import ReviewApp
from pipeline.review.state import Review
from pipeline.review.terminal_image import TerminalGraphics
from pipeline.workspace import Workspace

FOLDER = Path(__file__).parent.parent / "sample_data" / "screenshots"
_STAGES = ("crop", "augment", "tag", "merge", "build")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_REVIEW_SIZE = (128, 34)  # columns and rows
_REVIEW_IMAGE = "anvil.jpg"
_REPORT_SIZE = (1240, 1150)  # pixels
_MAX_BYTES = 250_000  # of a PNG file: a larger one gets a palette of 256 colors


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        print(f"No screenshots: none of {', '.join(_BROWSERS)} is installed.", file=sys.stderr)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        workspace = create_demo(Path(temporary) / "demo")
        for stage in _STAGES:
            _prep(workspace, stage, "-q")
        _prep(workspace, "report", "-q")
        _screenshot(browser, workspace.root / "report.html", folder / "report.png", _REPORT_SIZE)
        svg = asyncio.run(_review_svg(workspace))
        page, size = _review_page(svg, workspace.root / "review.html")
        _screenshot(browser, page, folder / "review.png", size)


def _prep(workspace: Workspace, *arguments: str) -> None:
    code = "from pipeline.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", code, "-C", str(workspace.root), *arguments], check=True)


async def _review_svg(workspace: Workspace) -> str:
    """The review at one of the subject's images, with an edit, a flag and a selection, as SVG."""
    app = ReviewApp(Review.open(workspace), TerminalGraphics("blocks"))
    async with app.run_test(size=_REVIEW_SIZE) as pilot:
        app.apply_filter("role:train")
        names = [app.review.table.summary(int(row)).source.rpartition("/")[2] for row in app.review.rows]
        app.move_to(names.index(_REVIEW_IMAGE))
        app.refresh_all()
        await pilot.press("f", "a", *"leather", "enter")
        app.move_to(app.review.position)  # the keys again, in place of the message
        await _settle(app)
        return app.export_screenshot(title="prep review")


async def _settle(app: ReviewApp) -> None:
    """Wait until the image is drawn and the tags are counted."""
    for _ in range(5):
        await asyncio.sleep(0.1)
        await app.workers.wait_for_complete()


def _review_page(svg: str, path: Path) -> tuple[Path, tuple[int, int]]:
    """A page with the SVG alone, without its fonts from the network; returns its size in pixels too."""
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found
    path.write_text(f"<!doctype html><style>body {{ margin: 0 }} svg {{ display: block }}</style>{svg}", "utf-8")
    return path, (round(float(found[1])), round(float(found[2])))


def _screenshot(browser: str, page: Path, png: Path, size: tuple[int, int]) -> None:
    """What the browser shows of a page, as a PNG."""
    from PIL import Image

    width, height = size
    with tempfile.TemporaryDirectory() as profile:
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
        where = (f"--user-data-dir={profile}", f"--screenshot={png}", f"--window-size={width},{height}")
        command = [browser, *options, "--hide-scrollbars", *where, page.as_uri()]
        subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with Image.open(png) as opened:
        image = opened.convert("RGB")
    image.save(png, optimize=True)
    if png.stat().st_size > _MAX_BYTES:
        image.quantize(256, kmeans=3).save(png, optimize=True)
    print(f"{png}   {png.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
