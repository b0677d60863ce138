"""The learning curves of a run as one picture."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.workspace import write_atomic
from training.watch.validation import SETS
from training.watch.verdict import Evaluation, Verdict, mean

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

Color = tuple[int, int, int]
Points = list[tuple[float, float]]

_FINE = 2  # times that it is drawn larger and then reduced, for smooth lines
_WIDE, _HIGH = 1200 * _FINE, 640 * _FINE
_LEFT, _RIGHT, _TOP, _BOTTOM = 90 * _FINE, 1170 * _FINE, 70 * _FINE, 570 * _FINE  # of the plot
_PAPER, _INK, _RULE, _FAINT = (250, 250, 248), (40, 40, 40), (222, 222, 216), (200, 200, 194)
# Told apart by anybody's eyes: Okabe and Ito, 2008.
_COLORS: dict[str, Color] = {"train": (0, 114, 178), "validation": (213, 94, 0), "reg": (0, 158, 115)}
_NAMES = {"train": "training pictures", "validation": "validation pictures", "reg": "regularization pictures"}
_MOST = 400  # points of the loss of the steps; more are averaged


@dataclass(frozen=True, slots=True)
class Scale:
    """From steps and losses to pixels."""

    last: float  # step at the right edge
    low: float  # loss at the lower edge
    high: float

    def place(self, step: float, loss: float) -> tuple[float, float]:
        x = _LEFT + (_RIGHT - _LEFT) * step / max(self.last, 1)
        share = (min(max(loss, self.low), self.high) - self.low) / (self.high - self.low)
        return x, _BOTTOM - (_BOTTOM - _TOP) * share


def draw_curves(folder: Path, evaluations: list[Evaluation], verdicts: list[Verdict]) -> None:
    """Draw curves.png: the loss of the steps in grey, those of the evaluations in colour, the best step marked."""
    import pyarrow.parquet as pq
    from PIL import Image, ImageDraw

    table = pq.read_table(folder / "metrics.parquet", columns=["step", "loss"])
    pairs = zip(table["step"].to_pylist(), table["loss"].to_pylist(), strict=True)
    steps = averaged([(step, loss) for step, loss in pairs if loss is not None])
    lines = {name: measured(evaluations, name) for name in SETS}
    best = next((verdict for verdict in verdicts if verdict.best), None)
    scale = scale_of(steps, [point for line in lines.values() for point in line])
    picture = Image.new("RGB", (_WIDE, _HIGH), _PAPER)
    pen = ImageDraw.Draw(picture)
    _frame(pen, scale)
    if best:
        x, _ = scale.place(best.step, scale.low)
        pen.line([(x, _TOP), (x, _BOTTOM)], _COLORS["validation"], _FINE)
        side = "ra" if x > (_LEFT + _RIGHT) / 2 else "la"
        pen.text(
            (x + 6 * _FINE * (1 if side == "la" else -1), _TOP + 4 * _FINE),
            f"best: step {best.step}",
            _INK,
            _font(16),
            side,
        )
    _line(pen, [scale.place(*point) for point in steps], _FAINT, 2 * _FINE)
    for name, line in lines.items():
        places = [scale.place(*point) for point in line]
        _line(pen, places, _COLORS[name], 2 * _FINE)
        for x, y in places:
            pen.circle((x, y), 5 * _FINE, _COLORS[name])
    _legend(pen, [name for name in SETS if lines[name]])
    file = io.BytesIO()
    picture.reduce(_FINE).save(file, "PNG")
    write_atomic(folder / "curves.png", file.getvalue())


def measured(evaluations: list[Evaluation], name: str) -> Points:
    """The mean losses of a set, by step."""
    found = [(one.step, list(getattr(one, name).values())) for one in evaluations]
    return [(step, mean(losses)) for step, losses in found if losses]


def averaged(points: Points) -> Points:
    """At most so many points, each the mean of some steps: single ones differ more by their time than by learning."""
    size = max(math.ceil(len(points) / _MOST), min(25, len(points) // 10), 1)
    runs = [points[at : at + size] for at in range(0, len(points), size)]
    return [(mean([step for step, _ in run]), mean([loss for _, loss in run])) for run in runs]


def scale_of(steps: Points, others: Points) -> Scale:
    """A scale on which the evaluations fill the picture; single steps may leave it at the top."""
    losses = sorted(loss for _, loss in others) or sorted(loss for _, loss in steps) or [0.0, 1.0]
    usual = sorted(loss for _, loss in steps)[: max(1, len(steps) * 9 // 10)] or losses
    low, high = min(losses[0], usual[0]), max(losses[-1], usual[-1])
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(max((step for step, _ in [*steps, *others]), default=1), low - pad, high + pad)


def ticks(low: float, high: float) -> list[float]:
    """Three to eight round numbers between two others."""
    raw = (high - low) / 5
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= raw)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step) + 1)]


def _frame(pen: ImageDraw, scale: Scale) -> None:
    """Rules with their numbers, and what the axes are."""
    font = _font(15)
    marks = ticks(scale.low, scale.high)
    digits = max(0, -math.floor(math.log10(marks[1] - marks[0]))) if len(marks) > 1 else 3
    for loss in marks:
        _, y = scale.place(0, loss)
        pen.line([(_LEFT, y), (_RIGHT, y)], _RULE, _FINE)
        pen.text((_LEFT - 8 * _FINE, y), f"{loss:.{digits}f}", _INK, font, "rm")
    for step in ticks(0, max(scale.last, 1)):
        if step == round(step):
            x, _ = scale.place(step, scale.low)
            pen.line([(x, _BOTTOM), (x, _BOTTOM + 5 * _FINE)], _INK, _FINE)
            pen.text((x, _BOTTOM + 8 * _FINE), f"{round(step):,}", _INK, font, "ma")
    pen.line([(_LEFT, _BOTTOM), (_RIGHT, _BOTTOM)], _INK, _FINE)
    pen.text(((_LEFT + _RIGHT) / 2, _HIGH - 30 * _FINE), "step", _INK, font, "ma")
    pen.text((_LEFT - 8 * _FINE, _TOP - 14 * _FINE), "loss", _INK, font, "rb")


def _line(pen: ImageDraw, places: Points, color: Color, width: int) -> None:
    if len(places) > 1:
        pen.line(places, color, width, "curve")


def _legend(pen: ImageDraw, names: list[str]) -> None:
    """The lines' names above the plot."""
    font, x, y = _font(16), float(_LEFT), _TOP - 42 * _FINE
    entries = [("loss of the steps, averaged", _FAINT), *((_NAMES[name], _COLORS[name]) for name in names)]
    for words, color in entries:
        pen.line([(x, y), (x + 26 * _FINE, y)], color, 4 * _FINE)
        pen.text((x + 34 * _FINE, y), words, _INK, font, "lm")
        x += font.getlength(words) + 70 * _FINE


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size * _FINE)
