"""One control of an image, as the option --control gives it."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from training.sampling.closest_name import find_name
from training.sampling.control.fitting import RESIZE_MODES

# By our names: WebUI's.
MODES = {
    "balanced": "Balanced",
    "prompt": "My prompt is more important",
    "control": "ControlNet is more important",
}
_EXAMPLE = "Such as: --control canny=photo.png,model=lllyasviel/control_v11p_sd15_canny,weight=0.8,end=0.7"


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlRequest:
    """An image that controls others, and how. The defaults are those of WebUI's ControlNet extension."""

    kind: str  # a key of KINDS
    image: str  # path as given
    model: str = ""  # folder, file, hub id or short name; empty: the usual one of the kind
    weight: float = 1.0
    start: float = 0.0  # shares of the steps in which it acts
    end: float = 1.0
    mode: str = "balanced"  # of MODES
    resize: str = "crop"  # of RESIZE_MODES: how the map gets the size of the image
    resolution: int = 512  # pixels of the shorter side that the map is made at; 0: pixel perfect
    low: float = -1.0  # thresholds of the map; -1: as usual
    high: float = -1.0
    map: bool = True  # false: the image is a map already

    def infotext(self, model: str, low: float, high: float) -> str:
        """The unit as WebUI's ControlNet extension writes it into an image's parameters.

        `model` is named with its hash; `low` and `high` are the thresholds that count.
        """
        values = {
            "Module": self.kind if self.map else "none",
            "Model": model,
            "Weight": f"{self.weight:g}",
            "Resize Mode": RESIZE_MODES[self.resize],
            "Processor Res": str(self.resolution or 512),
            "Threshold A": f"{low:g}",
            "Threshold B": f"{high:g}",
            "Guidance Start": f"{self.start:g}",
            "Guidance End": f"{self.end:g}",
            "Pixel Perfect": str(not self.resolution),
            "Control Mode": MODES[self.mode],
        }
        return ", ".join(f"{key}: {value}" for key, value in values.items())


_OPTIONS = tuple(field.name for field in fields(ControlRequest) if field.name not in ("kind", "image"))
# A comma ends the file's name only before an option, so that names may have commas.
_COMMA = re.compile(rf",(?=\s*(?:{'|'.join(_OPTIONS)})\s*=)", re.IGNORECASE)

_MISSPELT = re.compile(r",\s*(\w+)\s*=")  # what looks like another option


def parse_control(text: str) -> ControlRequest:
    """The request that KIND=IMAGE,OPTION=VALUE,... describes; PrepError says what is wrong with it."""
    from training.sampling.control.kinds import KINDS

    first, *rest = _COMMA.split(text)
    kind, equals, image = first.partition("=")
    if not equals or not image.strip():
        raise PrepError(f"--control is {escape_control(text)[:60]!r}: it must be KIND=IMAGE.", _EXAMPLE)
    if (other := _MISSPELT.search(image)) and not Path(image.strip()).expanduser().exists():
        close = difflib.get_close_matches(other[1].lower(), _OPTIONS, n=1)
        if close:
            raise PrepError(f"--control has no option {other[1]!r}.", f"Did you mean {close[0]}=?")
    title = find_name(kind, {name: known.aliases for name, known in KINDS.items()}, "kind of control")
    values: dict[str, Any] = {}
    for part in rest:
        name, _, value = part.partition("=")
        values[name.strip().lower()] = _value(name.strip().lower(), value.strip())
    request = replace(ControlRequest(kind=title, image=image.strip()), **values)
    if not request.start < request.end:
        raise PrepError(
            f"--control {title}: it starts at {request.start:g} and ends at {request.end:g}.",
            "The start must be before the end: start=0,end=0.7",
        )
    return request


def _value(name: str, text: str) -> Any:
    if name == "model":
        return str(Path(text).expanduser()) if text.startswith("~") else text
    if name in ("mode", "resize"):
        titles = MODES if name == "mode" else RESIZE_MODES
        return find_name(text, {key: (title,) for key, title in titles.items()}, f"control {name}")
    if name == "map":
        if text.lower() not in ("yes", "no"):
            raise PrepError(f"--control: map is {escape_control(text)[:20]!r}.", "It is yes, or no for a ready map.")
        return text.lower() == "yes"
    try:
        return _in_range(name, int(text) if name == "resolution" else float(text))
    except ValueError:
        raise PrepError(f"--control: {name} is {escape_control(text)[:20]!r}.", "It must be a number.") from None


_RANGES = {
    "weight": (0.0, 2.0),
    "start": (0.0, 1.0),
    "end": (0.0, 1.0),
    "resolution": (0, 2048),
    "low": (-1.0, 1e4),
    "high": (-1.0, 1e4),
}


def _in_range(name: str, value: float) -> float:
    low, high = _RANGES[name]
    if not low <= value <= high:
        raise PrepError(f"--control: {name} is {value:g}.", f"It must be from {low:g} to {high:g}.")
    return value
