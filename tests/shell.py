"""Run prep as a user does: a process of its own, its output and its exit code."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PREP = [sys.executable, "-c", "from pipeline.cli import main; main()"]


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


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
