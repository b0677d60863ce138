from __future__ import annotations

from pipeline.duration import clock_time, format_duration


def test_durations():
    assert [format_duration(s) for s in (0.04, 89, 90, 3600, 12000)] == [
        "0.0 s",
        "89.0 s",
        "2 min",
        "60 min",
        "3 h 20 min",
    ]


def test_times_as_on_a_clock():
    assert [clock_time(s) for s in (0, 59.6, 3599, 36061)] == ["0:00:00", "0:01:00", "0:59:59", "10:01:01"]
