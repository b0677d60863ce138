"""The learning curves of a run as one image."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.workspace import write_atomic
from training.evaluation.validation import SUBSETS
from training.evaluation.verdict import Evaluation, Verdict, mean

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

Color = tuple[int, int, int]
Points = list[tuple[float, float]]

_FINE = 2  # times that it is drawn larger and then reduced, for smooth lines
_WIDE, _LEFT, _RIGHT = 1200 * _FINE, 90 * _FINE, 1170 * _FINE  # of the image, and of the plots in it
_ABOVE, _BELOW = 70 * _FINE, 70 * _FINE  # a plot: for its legend, and for its axis
_LARGE, _SMALL = 460 * _FINE, 200 * _FINE  # heights of plots
_PAPER, _INK, _RULE, _GREY = (250, 250, 248), (40, 40, 40), (222, 222, 216), (150, 150, 144)
# Told apart by anybody's eyes: Okabe and Ito, 2008.
_COLORS: dict[str, Color] = {"train": (0, 114, 178), "validation": (213, 94, 0), "reg": (0, 158, 115)}
_NAMES = {"train": "training images", "validation": "validation images", "reg": "regularization images"}
_MOST = 400  # points of the loss of the steps; more are averaged


@dataclass(frozen=True, slots=True)
class PlotScale:
    """From steps and values to pixels of a plot."""

    last: float  # step at the right edge
    low: float  # value at the lower edge
    high: float
    top: int = _ABOVE  # pixels of the image
    bottom: int = _ABOVE + _LARGE

    def place(self, step: float, value: float) -> tuple[float, float]:
        x = _LEFT + (_RIGHT - _LEFT) * step / max(self.last, 1)
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return x, self.bottom - (self.bottom - self.top) * share


def draw_curves(folder: Path, evaluations: list[Evaluation], verdicts: list[Verdict]) -> None:
    """Draw loss_curves.png: the errors of the evaluations, the best step marked, and below them the loss of the steps.

    Without evaluations the loss stands alone.
    """
    import pyarrow.parquet as pq
    from PIL import Image, ImageDraw

    table = pq.read_table(folder / "metrics.parquet", columns=["step", "loss"])
    pairs = zip(table["step"].to_pylist(), table["loss"].to_pylist(), strict=True)
    steps = averaged([(step, loss) for step, loss in pairs if loss is not None])
    lines = {_NAMES[name]: (_COLORS[name], measured(evaluations, name)) for name in SUBSETS}
    lines = {name: line for name, line in lines.items() if line[1]}
    last = max((step for _, points in [*lines.values(), (_GREY, steps)] for step, _ in points), default=1)
    middle = _ABOVE + _LARGE + _BELOW if lines else 0
    lower = PlotScale(last, *bounds(_usual(steps)), middle + _ABOVE, middle + _ABOVE + (_SMALL if lines else _LARGE))
    image = Image.new("RGB", (_WIDE, lower.bottom + _BELOW), _PAPER)
    pen = ImageDraw.Draw(image)
    if lines:
        values = [value for _, points in lines.values() for _, value in points]
        upper = PlotScale(last, *bounds(values))
        _frame(pen, upper, "error, share of the base model's")
        _mark(pen, upper, next((verdict.step for verdict in verdicts if verdict.best), None))
        _plot(pen, upper, lines, dots=True)
    _frame(pen, lower, "loss")
    _plot(pen, lower, {"loss of the steps, averaged": (_GREY, steps)}, dots=False)
    file = io.BytesIO()
    image.reduce(_FINE).save(file, "PNG")
    write_atomic(folder / "loss_curves.png", file.getvalue())


def measured(evaluations: list[Evaluation], name: str) -> Points:
    """The mean errors of a set, by step."""
    found = [(one.step, list(getattr(one, name).values())) for one in evaluations]
    return [(step, mean(errors)) for step, errors in found if errors]


def averaged(points: Points) -> Points:
    """At most so many points, each the mean of some steps: single ones differ more by their time than by learning."""
    size = max(math.ceil(len(points) / _MOST), min(25, len(points) // 10), 1)
    runs = [points[at : at + size] for at in range(0, len(points), size)]
    return [(mean([step for step, _ in run]), mean([loss for _, loss in run])) for run in runs]


def bounds(values: list[float]) -> tuple[float, float]:
    """The least and the largest of a plot, a little outside of its values."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - pad, high + pad


def _usual(steps: Points) -> list[float]:
    """The losses but for the highest tenth: a single step may leave the plot at the top."""
    losses = sorted(loss for _, loss in steps)
    return losses[: max(1, len(losses) * 9 // 10)]


def ticks(low: float, high: float) -> list[float]:
    """Three to eight round numbers between two others."""
    raw = (high - low) / 5
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= raw)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step) + 1)]


def _frame(pen: ImageDraw, scale: PlotScale, what: str) -> None:
    """Rules with their numbers, and what the axes are."""
    font = _font(15)
    marks = ticks(scale.low, scale.high)
    digits = max(0, -math.floor(math.log10(marks[1] - marks[0]))) if len(marks) > 1 else 3
    for value in marks:
        _, y = scale.place(0, value)
        pen.line([(_LEFT, y), (_RIGHT, y)], _RULE, _FINE)
        pen.text((_LEFT - 8 * _FINE, y), f"{value:.{digits}f}", _INK, font, "rm")
    for step in ticks(0, max(scale.last, 1)):
        if step == round(step):
            x, _ = scale.place(step, scale.low)
            pen.line([(x, scale.bottom), (x, scale.bottom + 5 * _FINE)], _INK, _FINE)
            pen.text((x, scale.bottom + 8 * _FINE), f"{round(step):,}", _INK, font, "ma")
    pen.line([(_LEFT, scale.bottom), (_RIGHT, scale.bottom)], _INK, _FINE)
    pen.text(((_LEFT + _RIGHT) / 2, scale.bottom + 32 * _FINE), "step", _INK, font, "ma")
    pen.text((_RIGHT, scale.top - 42 * _FINE), what, _INK, font, "rm")


def _mark(pen: ImageDraw, scale: PlotScale, best: int | None) -> None:
    """A line through the best step, if there is one."""
    if best is None:
        return
    x, _ = scale.place(best, scale.low)
    pen.line([(x, scale.top), (x, scale.bottom)], _COLORS["validation"], _FINE)
    side = "ra" if x > (_LEFT + _RIGHT) / 2 else "la"
    aside = x + 6 * _FINE * (1 if side == "la" else -1)
    pen.text((aside, scale.top + 4 * _FINE), f"best: step {best}", _INK, _font(16), side)


def _plot(pen: ImageDraw, scale: PlotScale, lines: dict[str, tuple[Color, Points]], dots: bool) -> None:
    """Lines in their colors, with their names above the plot."""
    font, x, y = _font(16), float(_LEFT), scale.top - 42 * _FINE
    for name, (color, points) in lines.items():
        places = [scale.place(*point) for point in points]
        if len(places) > 1:
            pen.line(places, color, 2 * _FINE, "curve")
        for place in places if dots else ():
            pen.circle(place, 5 * _FINE, color)
        pen.line([(x, y), (x + 26 * _FINE, y)], color, 4 * _FINE)
        pen.text((x + 34 * _FINE, y), name, _INK, font, "lm")
        x += font.getlength(name) + 70 * _FINE


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size * _FINE)
