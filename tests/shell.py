"""Run prep as a user does: a process of its own, its output and its exit code."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from pipeline.cli.main import cli

PREP = [sys.executable, "-c", "from pipeline.cli.main import main; main()"]


def prep(*args: object, code: int | None = 0, **how: object) -> subprocess.CompletedProcess[str]:
    """Run prep and check its exit code; None takes any."""
    command = [*PREP, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, **how)  # type: ignore[call-overload]
    if code is not None and done.returncode != code:
        pytest.fail(f"prep {' '.join(map(str, args))} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    assert "Traceback" not in done.stderr, done.stderr
    return done


def photographs() -> list[Path]:
    """The real photographs in the wheels of scikit-image, scikit-learn and matplotlib."""
    import matplotlib
    import skimage
    import sklearn

    folders = (
        Path(skimage.__file__).parent / "data",
        Path(sklearn.__file__).parent / "datasets" / "images",
        Path(matplotlib.__file__).parent / "mpl-data" / "sample_data",
    )
    endings = {".png", ".jpg", ".jpeg", ".tif", ".gif"}
    return sorted(path for folder in folders for path in folder.iterdir() if path.suffix in endings)


def fill(folder: Path, files: list[Path]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder)
    return folder


def set_tables(home: Path, tables: str) -> None:
    """Put `tables` in the place of the stages' tables in a workspace's prep.toml."""
    recipe = home / "prep.toml"
    recipe.write_text(
        re.split(r"^(?:#.*\n)?\[(?:crop|augment|tag|merge|build|train)\b", recipe.read_text(), flags=re.M)[0] + tables
    )


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def assert_same_files(found: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    """Fail unless both hold the same files, byte for byte; of those that differ, say where, and what they decode to."""
    assert found.keys() == wanted.keys()
    differences = [_difference(name, found[name], data) for name, data in wanted.items() if found[name] != data]
    assert not differences, "\n".join(differences)


def _difference(name: str, one: bytes, other: bytes) -> str:
    at = next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    text = f"{name}: {len(one)} and {len(other)} bytes, others from byte {at} on"
    if not name.endswith(".png"):
        return text
    decoded = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in (one, other)]
    alike = decoded[0].shape == decoded[1].shape and (decoded[0] == decoded[1]).all()
    return f"{text}; {'the same' if alike else 'other'} pixels"


def commands(group=cli, prefix=()):
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        yield (*prefix, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))
