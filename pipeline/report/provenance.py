"""The steps that made a manifest, as the report shows them: which options differ from their defaults."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.history import HistoryStep
from pipeline.options import format_value
from pipeline.registry import STAGES, TAGGERS


@dataclass(frozen=True, slots=True)
class RecordedOption:
    """One option of a step, as text."""

    name: str
    value: str
    is_default: bool


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """One step with its options."""

    step: HistoryStep
    options: tuple[RecordedOption, ...]


def recorded_steps(history: Iterable[HistoryStep]) -> list[RecordedStep]:
    """The steps of a manifest's history, in order."""
    return [RecordedStep(step, tuple(_options(step))) for step in history]


def _options(step: HistoryStep) -> Iterable[RecordedOption]:
    stage = {**STAGES, **TAGGERS}.get(step.stage)
    defaults = {option.name: format_value(option.default) for option in stage.options()} if stage else {}
    for name, value in step.params.items():
        text = format_value(value)
        yield RecordedOption(name, text, defaults.get(name) == text)
