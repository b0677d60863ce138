"""Writes durations: '12.3 s', '4 min', '3 h 20 min'."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """A duration such as 12.3 s, 4 min or 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def clock_time(seconds: float) -> str:
    """A duration as H:MM:SS."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
