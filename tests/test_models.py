"""prep models: list, pull, check and where, as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.models.catalog import CATALOG
from pipeline.models.store import (
    format_bytes,
    install_hint,
    model_folder,
)
from tests.hub import FILES, VIT, write_files

pytestmark = pytest.mark.usefixtures("models_home")


PREP = "from pipeline.cli.main import main; main()"


def prep(*args, code=0, **env):
    command = [sys.executable, "-c", PREP, "models", *args]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | env, cwd=Path(__file__).parent.parent, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_the_size_is_that_on_disk_or_of_the_download(models_home):
    assert [format_bytes(size) for size in (7, 2_400, 464_000_000)] == ["7 bytes", "2.4 kB", "464 MB"]
    assert "prep models pull florence-2-base (464 MB)" in install_hint("florence-community/Florence-2-base")
    write_files(model_folder(VIT), {"model.onnx": b"x" * 1500, "selected_tags.csv": b"y" * 500})
    write_files(models_home / "someone--tiny", {"model.onnx": b"x" * 3000})
    found = {row["name"]: row for row in map(json.loads, prep("list", "--json").stdout.splitlines())}
    assert (found["wd-vit-tagger-v3"]["bytes"], found["wd-vit-tagger-v3"]["state"]) == (2000, "installed")
    assert (found["sd15"]["bytes"], found["sd15"]["state"]) == (4_270_000_000, "not installed")
    assert found["someone/tiny"]["bytes"] == 3000
    assert all(row["bytes"] for row in found.values())


def test_the_commands(hub, models_home):
    hub.add(VIT, FILES)
    lines = prep("list").stdout.splitlines()
    assert lines[0].split() == ["model", "size", "used", "by", "state"]
    assert lines[1] == "wd-vit-tagger-v3                379 MB  wd14          not installed"
    assert len({line.index("not installed") for line in lines[1 : len(CATALOG) + 1]}) == 1 and lines[-1].endswith(
        str(models_home)
    )
    away = prep("where", "wd-vit-tagger-v3", code=1)
    assert "prep models pull wd-vit-tagger-v3 (379 MB)" in away.stderr and away.stdout == ""
    offline = prep("pull", "wd-vit-tagger-v3", code=1, HF_HUB_OFFLINE="1", HF_ENDPOINT=hub.url)
    assert "HF_HUB_OFFLINE" in offline.stderr and hub.requests == []
    done = prep("pull", "wd-vit-tagger-v3", "--revision", "main", HF_ENDPOINT=hub.url)
    commit = hub.branches[VIT, "main"]
    assert done.stdout == f"{VIT} at {commit[:12]}, 307 kB, in {model_folder(VIT)}\n" and done.stderr == ""
    assert prep("where", "wd-vit-tagger-v3", HF_ENDPOINT=hub.url).stdout.strip() == str(model_folder(VIT))
    assert prep("where").stdout.strip() == str(models_home)
    assert prep("list").stdout.splitlines()[1].endswith("  installed")
    assert json.loads(prep("list", "--json").stdout.splitlines()[0]) == {
        "name": "wd-vit-tagger-v3",
        "hub": VIT,
        "bytes": sum(path.stat().st_size for path in model_folder(VIT).rglob("*") if path.is_file()),
        "used_by": "wd14",
        "state": "installed",
    }
    write_files(model_folder("me/own"), {"model.safetensors": b"1"})
    assert prep("check").stdout.splitlines() == [
        f"ok         {VIT}/config.json",
        f"ok         {VIT}/selected_tags.csv",
        f"ok         {VIT}/model.onnx",
        "no record  me/own",
    ]
    assert prep("list").stdout.splitlines()[len(CATALOG) + 1].split() == ["me/own", "1", "bytes", "installed"]
    (model_folder(VIT) / "model.onnx").write_bytes(b"1")
    assert f"changed    {VIT}/model.onnx" in prep("check", "wd-vit-tagger-v3", code=1).stdout
    assert "not on this machine" in prep("check", "blip-large", code=1).stderr
