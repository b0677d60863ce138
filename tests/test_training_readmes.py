"""The READMEs of training/ name every module of their package, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "training"


@pytest.mark.parametrize("package", [".", "models", "performance"])
def test_layout_names_all_modules(package):
    folder = ROOT / package
    text = (folder / "README.md").read_text("utf-8")
    (layout,) = (block for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) if ".py  " in block)
    names = set(re.findall(r"(?:^|\s)(\w+\.py)(?=\s)", layout)) | set(re.findall(r"(?:^|\s)(\w+)/(?=\s)", layout))
    modules = {path.name for path in folder.glob("*.py") if path.name != "__init__.py"}
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert names == modules | packages


@pytest.mark.parametrize("package", [".", "models", "performance"])
def test_links_and_files_exist(package):
    text = (ROOT / package / "README.md").read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / package / target).exists(), target
    assert len(text) < 5000
