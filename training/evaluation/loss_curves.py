"""The loss curves of a run as one figure: validation errors with their verdicts, training loss and learning rate."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.parquet_rows import read_columns
from pipeline.workspace import write_atomic
from training.evaluation.validation import SUBSETS
from training.evaluation.verdict import Evaluation, Verdict, mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy import ndarray

# Distinguishable with any color vision: Okabe and Ito, 2008 (https://jfly.uni-koeln.de/color/).
_COLORS = {"train": "#0072B2", "validation": "#D55E00", "reg": "#009E73"}
_LABELS = {"train": "training images", "validation": "validation images", "reg": "regularization images"}
_VERDICTS = {  # marker, and whether it is filled
    "underfit": ("v", False),
    "good": ("o", True),
    "overfit": ("^", False),
    "unsure": ("o", False),
}
_GRAY = "#8a8a84"
_SMOOTH = 25  # the training loss is averaged over a 25th of the run: single steps differ more by their timesteps
_POINTS = 2000  # most single losses drawn
_SHOWN = 0.9  # quantile of the single losses at the upper edge of their axis


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """The columns of metrics.parquet that the figure shows, one entry per step."""

    step: ndarray
    loss: ndarray  # NaN in steps without subject images
    learning_rate: ndarray

    @classmethod
    def read(cls, path: Path) -> StepMetrics:
        import numpy as np

        columns = read_columns(path, ("step", "loss", "learning_rate"))
        return cls(*(np.array(column, np.float64) for column in columns))


def draw_loss_curves(folder: Path, evaluations: list[Evaluation], verdicts: list[Verdict]) -> None:
    """Write loss_curves.png from the folder's metrics.parquet and the evaluations, of which there may be none."""
    import matplotlib.style

    with matplotlib.style.context("default"):  # the user's own style would change the file
        figure = loss_figure(StepMetrics.read(folder / "metrics.parquet"), evaluations, verdicts)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    write_atomic(folder / "loss_curves.png", file.getvalue())


def loss_figure(metrics: StepMetrics, evaluations: list[Evaluation], verdicts: list[Verdict]) -> Figure:
    """The figure: a panel for the errors, if there are evaluations, one for the loss and one for the learning rate."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    evaluated = any(mean_errors(evaluations, name)[0] for name in SUBSETS)
    heights = [3.2, 1.8, 0.8] if evaluated else [3.2, 0.8]
    figure = Figure(figsize=(11, 1.2 * sum(heights)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(len(heights), sharex=True, height_ratios=heights, squeeze=False)[:, 0])
    if evaluated:
        _draw_errors(panels[0], evaluations, verdicts)
    _draw_loss(panels[-2], metrics)
    _draw_learning_rate(panels[-1], metrics)
    for panel in panels:
        panel.grid(True, color="#e4e4de", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("step")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.align_ylabels(panels)
    return figure


def mean_errors(evaluations: list[Evaluation], name: str) -> tuple[list[int], list[float]]:
    """The steps at which a subset was evaluated, and its mean errors as shares of the base model's."""
    pairs = [(one.step, mean(list(errors.values()))) for one in evaluations if (errors := getattr(one, name))]
    return [step for step, _ in pairs], [error for _, error in pairs]


def moving_mean(values: ndarray, window: int) -> ndarray:
    """The mean of the `window` values around each of one or more values, fewer at both ends; NaNs are left out."""
    import numpy as np

    known = np.isfinite(values)
    kernel = np.ones(min(window, len(values)))
    sums = np.convolve(np.where(known, values, 0.0), kernel, "same")
    counts = np.convolve(known, kernel, "same")
    means: ndarray = np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
    return means


def _draw_errors(panel: Axes, evaluations: list[Evaluation], verdicts: list[Verdict]) -> None:
    """A line per subset, the verdict as the marker of each validation, and the best step."""
    for name in SUBSETS:
        steps, errors = mean_errors(evaluations, name)
        if steps:
            panel.plot(steps, errors, color=_COLORS[name], label=_LABELS[name], linewidth=2)
    steps, errors = mean_errors(evaluations, "validation")
    at = dict(zip(steps, errors, strict=True))
    for fit, (marker, filled) in _VERDICTS.items():
        judged = [verdict.step for verdict in verdicts if verdict.fit == fit and verdict.step in at]
        if judged:
            color = _COLORS["validation"]
            panel.plot(
                judged,
                [at[step] for step in judged],
                linestyle="none",
                marker=marker,
                markersize=9,
                markeredgewidth=1.8,
                markeredgecolor=color,
                markerfacecolor=color if filled else "white",
                label=fit,
            )
    best = next((verdict.step for verdict in verdicts if verdict.best), None)
    if best is not None:
        panel.axvline(best, color=_COLORS["validation"], linestyle="--", linewidth=1.2, label=f"best: step {best:,}")
    panel.axhline(1.0, color=_GRAY, linewidth=1, zorder=1)
    panel.set_ylabel("error relative to the base model")
    panel.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
    _legend(panel)


def _draw_loss(panel: Axes, metrics: StepMetrics) -> None:
    """Single losses as dots, and their moving mean; the axis leaves out the highest of the single ones."""
    import numpy as np

    every = max(1, len(metrics.step) // _POINTS)
    window = max(1, len(metrics.step) // _SMOOTH)
    smoothed = moving_mean(metrics.loss, window)
    if window > 1:
        single = metrics.loss[::every]
        panel.plot(metrics.step[::every], single, ".", color=_GRAY, alpha=0.4, markersize=4, label="single steps")
    label = f"mean of {window:,} steps" if window > 1 else "each step"
    panel.plot(metrics.step, smoothed, color=_COLORS["train"], linewidth=2, label=label)
    panel.set_ylabel("training loss")
    finite = metrics.loss[np.isfinite(metrics.loss)]
    if len(finite) and (top := 1.1 * max(np.quantile(finite, _SHOWN), np.nanmax(smoothed))) > 0:
        panel.set_ylim(0, top)
    _legend(panel)


def _draw_learning_rate(panel: Axes, metrics: StepMetrics) -> None:
    panel.plot(metrics.step, metrics.learning_rate, color="#56504a", linewidth=1.6)
    panel.set_ylabel("learning rate")
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")


def _legend(panel: Axes) -> None:
    """The legend, to the right of the panel, where it covers nothing."""
    panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, borderaxespad=0.3)
