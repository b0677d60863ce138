"""Imports without libraries that are not used: hidden while it lasts, and in processes of prep's own only."""

from __future__ import annotations

import subprocess
import sys

import pytest

from training.models.light_imports import import_models, light_imports, look_for_libraries


def test_what_is_imported_already_stays_and_the_rest_can_be_imported_afterwards():
    code = (
        "import sys, pandas\n"
        "from training.models.light_imports import light_imports\n"
        "with light_imports():\n"
        "    import pandas\n"
        "    try:\n        import peft\n    except ModuleNotFoundError:\n        print('hidden')\n"
        "import scipy\n"
        "print(*(name for name in ('peft', 'scipy') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["hidden", "scipy"]


@pytest.mark.parametrize(("first", "hidden"), [("look_for_libraries()", "True"), ("import diffusers.utils", "False")])
def test_models_are_imported_whatever_was_before(first, hidden):
    """In a process of prep's own without the libraries, unless diffusers has already found them."""
    code = (
        "import os, sys\n"
        "os.environ['PREP_PROCESS'] = str(os.getpid())\n"
        "from training.models.light_imports import *\n"
        f"{first}\nimport_models()\nprint('peft' not in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [hidden]


def test_elsewhere_nothing_is_hidden(monkeypatch):
    monkeypatch.delenv("PREP_PROCESS", raising=False)
    monkeypatch.setattr("training.models.light_imports.light_imports", lambda: pytest.fail("hidden"))
    look_for_libraries()
    import_models()


def test_an_error_brings_the_libraries_back():
    before = set(sys.modules)
    with pytest.raises(KeyError), light_imports():
        raise KeyError
    assert set(sys.modules) == before
