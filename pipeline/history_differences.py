"""What differs between two steps of a history, in words: version, options, files that were read, and models."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pipeline.history import HistoryStep
from pipeline.options import format_value


def history_differences(before: HistoryStep, now: HistoryStep, digests: Collection[str] = ()) -> Iterator[str]:
    """Each difference but that of the input, such as 'rank was 8, is now 16'.

    `digests` names the parameters that are digests of files.
    """
    if before.version != now.version:
        yield f"this version of prep changed {now.stage}"
    for name in sorted(now.params.keys() | before.params.keys()):
        old, new = before.params.get(name), now.params.get(name)
        if old != new and name in digests:
            yield f"the {name} changed"
        elif old != new:
            yield f"{name} was {format_value(old)}, is now {format_value(new)}"
    if before.models != now.models:
        yield f"the model of {now.stage} changed"
