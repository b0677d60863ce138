"""The map of the house, HOUSE.md, from the first sentence of every module: python -m tests.house_map writes it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pipeline", "stages", "taggers", "training", "sample_data")
HEAD = """# The house, room by room

Written by `python -m tests.house_map` from the first sentence of every module; a test compares the two. Imports point
downwards only: which floor a module stands on is in [tests/test_house.py](tests/test_house.py). Tests are named after
modules, `tests/test_NAME.py`.
"""


def first_sentence(path: Path) -> str:
    """What a module's docstring says first, on one line."""
    said = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    line = " ".join(said.split("\n\n")[0].split())
    end = line.find(". ")
    return (line if end < 0 else line[: end + 1]).rstrip(".")


def rooms() -> Iterator[Path]:
    """Every package and the packages below it."""
    for package in PACKAGES:
        yield from (init.parent for init in sorted((ROOT / package).rglob("__init__.py")))


def written() -> str:
    """The whole page."""
    parts = [HEAD]
    for room in rooms():
        parts.append(f"\n## {room.relative_to(ROOT).as_posix()}/\n\n{first_sentence(room / '__init__.py')}.\n\n")
        parts.append("| file | what it is |\n|---|---|\n")
        for module in sorted(room.glob("*.py")):
            if module.name != "__init__.py":
                parts.append(f"| `{module.name}` | {first_sentence(module).replace('|', '/')} |\n")
    return "".join(parts)


if __name__ == "__main__":
    (ROOT / "HOUSE.md").write_text(written(), encoding="utf-8")
