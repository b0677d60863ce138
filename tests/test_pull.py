"""Downloads: complete or not at all, verified, resumed, and every refusal in one sentence."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import pipeline.models.file_hashes
import pipeline.models.pull
import pipeline.models.store
from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.models.catalog import CatalogEntry, catalog_entry
from pipeline.models.file_hashes import model_hashes
from pipeline.models.pull import PullRequest, part_folder, pull
from pipeline.models.pull_record import RECORD, PulledFile, PulledModel, read_record
from pipeline.models.store import (
    LocalModel,
    find_model,
    model_folder,
    state_of,
    unlisted_models,
)
from tests.hub import FILES, ONNX, VIT, git_sha1, request, sha256, tree, write_files
from tests.make import workspace as make_workspace

pytestmark = pytest.mark.usefixtures("models_home")


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path / "smith")


def test_a_pull_downloads_what_the_tagger_needs_and_records_it(hub, models_home, workspace):
    commit = hub.add(VIT, FILES)
    reports = []
    pulled = pull(request(hub, "wd-vit-tagger-v3"), report=lambda done, total: reports.append((done, total)))
    wanted = {name: FILES[name] for name in ("config.json", "model.onnx", "selected_tags.csv")}
    files = tree(model_folder(VIT))
    record = json.loads(files.pop(RECORD))
    assert files == wanted
    assert record["name"] == VIT and record["revision"] == commit
    assert {name: one["sha256"] for name, one in record["files"].items()} == {n: sha256(d) for n, d in wanted.items()}
    assert (
        pulled
        == read_record(model_folder(VIT))
        == PulledModel(VIT, commit, {n: PulledFile(len(d), sha256(d)) for n, d in wanted.items()})
    )
    assert reports[-1] == (sum(map(len, wanted.values())),) * 2 and reports == sorted(reports)
    found = find_model("wd-vit-tagger-v3", workspace, ("model.onnx", "selected_tags.csv"))
    assert found == LocalModel(model_folder(VIT), VIT, commit)
    assert model_hashes(found, ["model.onnx"]) == (Model(f"{VIT}/model.onnx", sha256(ONNX), commit),)
    assert state_of(VIT, catalog_entry(VIT).files) == "installed" and unlisted_models() == []
    assert {path.name for path in models_home.iterdir() if path.is_dir()} == {model_folder(VIT).name}


def test_the_token_goes_to_the_hub_and_not_to_its_store(hub):
    hub.add(VIT, FILES)
    pull(request(hub))
    for _, path, headers in hub.requests:
        assert headers.get("authorization") == (None if "/x/" in path else "Bearer hf_secret"), path
    assert sum("/x/model.onnx" in path for _, path, _ in hub.requests) == 1


def test_a_second_pull_sends_no_request_and_a_moved_branch_is_downloaded(hub):
    first = hub.add(VIT, FILES)
    listed = PullRequest.of(VIT, "", (), hub.url)
    hub.branches[VIT, catalog_entry(VIT).revision] = first
    assert pull(listed).revision == first
    hub.requests.clear()
    assert pull(listed).revision == first and hub.requests == []
    assert pull(listed, offline=True).revision == first
    assert pull(request(hub)).revision == first and hub.downloads() == []
    second = hub.add(VIT, FILES | {"config.json": b"{1}"})
    assert pull(listed).revision == first
    assert pull(request(hub)).revision == second
    assert (model_folder(VIT) / "config.json").read_bytes() == b"{1}"
    assert pull(request(hub, revision=first)).revision == first


def test_without_a_revision_the_catalogs_commit_is_requested(hub):
    hub.add(VIT, FILES)
    with pytest.raises(PrepError, match="no such revision"):
        pull(PullRequest.of(VIT, endpoint=hub.url))
    assert hub.requests[0][1] == f"/api/models/{VIT}/revision/790b0e92cefd2a0221451604e7831fe643ab7c4f"


def test_a_broken_connection_is_resumed_where_it_was(hub):
    hub.add(VIT, FILES)
    hub.cuts, hub.cut_after = 2, 100_000
    pull(request(hub, files=("model.onnx",)))
    assert (model_folder(VIT) / "model.onnx").read_bytes() == ONNX
    assert set(hub.ranges()) == {"bytes=100000-", "bytes=200000-"}


def interrupt(hub, monkeypatch):
    """Pull until the connection is gone for good after 100,000 bytes of the large file."""
    from huggingface_hub import file_download

    hub.add(VIT, FILES)
    hub.cuts, hub.cut_after = 1, 100_000
    real, calls = file_download.http_stream_backoff, []

    def stream(*args, **kwargs):
        calls.append(kwargs["url"])
        if calls.count(kwargs["url"]) > 1:
            kwargs["url"] = kwargs["url"].replace(hub.store, "http://127.0.0.1:9")
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(file_download, "http_stream_backoff", stream)
        with pytest.raises(PrepError) as caught:
            pull(request(hub))
    return caught.value


def test_an_interrupted_pull_is_no_model_and_the_next_one_keeps_complete_files(
    hub, models_home, workspace, monkeypatch
):
    error = interrupt(hub, monkeypatch)
    assert "connection" in error.wrong and "Complete files are kept" in error.hint
    assert "prep models pull wd-vit-tagger-v3 (379 MB)" in error.hint and str(model_folder(VIT)) in error.hint
    part = part_folder(VIT)
    assert set(tree(part)) >= {"config.json", "selected_tags.csv"} and not (part / "model.onnx").exists()
    assert not model_folder(VIT).exists() and state_of(VIT) == "partly downloaded" and unlisted_models() == []
    for name in (VIT, str(part)):
        with pytest.raises(PrepError):
            find_model(name, workspace, ("config.json",))
    hub.requests.clear()
    pull(request(hub))
    assert hub.downloads() == ["model.onnx"]  # the small ones were complete
    assert (model_folder(VIT) / "model.onnx").read_bytes() == ONNX
    assert not part.exists() and set(tree(model_folder(VIT))) == {
        "config.json",
        "model.onnx",
        "selected_tags.csv",
        RECORD,
    }


def test_an_interrupted_pull_of_another_version_is_not_mixed_with_this_one(hub, monkeypatch):
    interrupt(hub, monkeypatch)
    newer = ONNX[::-1]
    hub.add(VIT, FILES | {"model.onnx": newer})
    hub.requests.clear()
    pull(request(hub))
    assert (model_folder(VIT) / "model.onnx").read_bytes() == newer and hub.ranges() == []
    assert set(tree(model_folder(VIT))) == {"config.json", "model.onnx", "selected_tags.csv", RECORD}


def test_a_killed_pull_is_no_model(hub, models_home, workspace, tmp_path):
    """A real process, killed while bytes come in."""
    hub.add(VIT, FILES)
    code = (
        "import os, signal, huggingface_hub.constants as c, pipeline.models.pull as p\n"
        "c.DOWNLOAD_CHUNK_SIZE = 20_000\n"
        f"request = p.PullRequest.of({VIT!r}, 'main', (), {hub.url!r})\n"
        "p.pull(request, report=lambda done, total: done > 100000 and os.kill(os.getpid(), signal.SIGKILL))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=Path(__file__).parent.parent, check=False
    )
    assert done.returncode == -9, done.stderr
    assert not model_folder(VIT).exists() and state_of(VIT) == "partly downloaded"
    (partial,) = part_folder(VIT).rglob("*.incomplete")
    assert 0 < partial.stat().st_size < len(ONNX)
    with pytest.raises(PrepError, match="not on this machine"):
        find_model(VIT, workspace, ())
    hub.gone.add("model.onnx")
    with pytest.raises(PrepError):
        pull(request(hub))
    assert not partial.exists()  # the library cannot continue it
    hub.gone.clear()
    pull(request(hub))
    assert (model_folder(VIT) / "model.onnx").read_bytes() == ONNX


@pytest.mark.parametrize("name", ["model.onnx", "config.json"])
def test_bytes_that_do_not_have_the_listed_hash_are_refused(hub, workspace, name):
    hub.add(VIT, FILES)
    hub.damaged[name] = FILES[name].replace(
        b"{}" if name == "config.json" else b"\7", b"[]" if name == "config.json" else b"\6"
    )
    assert len(hub.damaged[name]) == len(FILES[name])
    with pytest.raises(PrepError) as caught:
        pull(request(hub))
    kind = sha256 if name == "model.onnx" else git_sha1
    assert name in caught.value.wrong and "damaged" in caught.value.wrong
    assert kind(FILES[name])[:12] in caught.value.wrong and kind(hub.damaged[name])[:12] in caught.value.wrong
    assert not model_folder(VIT).exists() and not (part_folder(VIT) / name).exists()
    assert not list(part_folder(VIT).rglob("*.incomplete"))
    hub.damaged.clear()
    pull(request(hub))
    assert (model_folder(VIT) / name).read_bytes() == FILES[name]


def test_a_shorter_or_longer_body_is_refused(hub):
    hub.add(VIT, FILES)
    for body in (ONNX[:-1], ONNX + b"!"):
        hub.damaged["model.onnx"] = body
        with pytest.raises(PrepError, match=r"cut short|damaged"):
            pull(request(hub))
        assert not model_folder(VIT).exists()
    hub.damaged.clear()
    pull(request(hub))
    assert (model_folder(VIT) / "model.onnx").read_bytes() == ONNX


def no_network(hub):
    hub.url = "http://127.0.0.1:9"


REFUSALS = {
    "no such model": (lambda hub: hub.commits.clear(), "There is no model", "hf auth login"),
    "wrong token": (lambda hub: setattr(hub, "token", "hf_other"), "does not accept the token", "hf auth login"),
    "private, no token": (lambda hub: setattr(hub, "status", 401), "There is no model", "hf auth login"),
    "no such revision": (lambda hub: hub.branches.clear(), "has no such revision", "/commits/main"),
    "file vanished": (lambda hub: hub.gone.add("model.onnx"), "no longer exists", "/tree/main"),
    "gated": (lambda hub: hub.gated.add(VIT), "is gated", f"/{VIT}, log in"),
    "forbidden": (lambda hub: setattr(hub, "status", 403), "answers 403", "hf auth login"),
    "another small file": (lambda hub: hub.replaced.update({"config.json": b"[]\n"}), "config.json of", "deleted"),
    "another large file": (lambda hub: hub.replaced.update({"model.onnx": b"x"}), "arrived damaged", "deleted"),
    "down": (lambda hub: setattr(hub, "status", 503), "answers 503", "Try again later"),
    "too many": (lambda hub: setattr(hub, "status", 429), "answers 429", "Try again later"),
    "a web page": (
        lambda hub: setattr(hub, "page", b"<html>log in to the hotel"),
        "not answer as a model hub",
        "models pull",
    ),
    "another json": (lambda hub: setattr(hub, "page", b"{}"), "not answer as a model hub", "models pull"),
    "a list": (lambda hub: setattr(hub, "page", b"[1]"), "not answer as a model hub", "models pull"),
    "no network": (
        no_network,
        "The connection to http://127.0.0.1:9 failed",
        "prep models pull wd-vit-tagger-v3 (379 MB)",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_one_sentence_and_what_to_do(hub, case):
    misbehave, problem, hint = REFUSALS[case]
    hub.add(VIT, FILES)
    misbehave(hub)
    with pytest.raises(PrepError) as caught:
        pull(request(hub))
    assert problem in caught.value.wrong and hint in caught.value.hint, caught.value
    assert "\n" not in caught.value.wrong + caught.value.hint
    assert not model_folder(VIT).exists()
    if case == "gated":
        assert f"Accept them at {hub.url}/{VIT}" in caught.value.hint


def test_offline_sends_no_request(hub):
    hub.add(VIT, FILES)
    with pytest.raises(PrepError, match="--offline or HF_HUB_OFFLINE") as caught:
        pull(request(hub), offline=True)
    assert hub.requests == [] and str(model_folder(VIT)) in caught.value.hint


def test_a_full_disk_is_an_error_before_and_during_a_download(hub, monkeypatch):
    hub.add(VIT, FILES)
    usage = shutil.disk_usage("/")._replace(free=50_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.models.pull.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(PrepError, match=r"has 50 MB free; .* needs 100 MB"):
            pull(request(hub))
        assert hub.downloads() == []

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download._chmod_and_move", full)
    with pytest.raises(PrepError, match=r"The disk that holds .* is full"):
        pull(request(hub))


def test_two_pulls_of_one_model_exclude_each_other(hub):
    hub.add(VIT, FILES)
    with pipeline.models.pull._locked(VIT), pytest.raises(PrepError, match="Another prep is downloading"):
        pull(request(hub))
    pull(request(hub))


def test_a_newer_pull_replaces_its_own_files_and_keeps_the_users(hub):
    hub.add(VIT, FILES)
    pull(request(hub))
    (model_folder(VIT) / "notes.txt").write_text("mine")
    hub.add(VIT, FILES | {"config.json": b"{1}"})
    pull(request(hub))
    old = model_folder(VIT).with_name(f"{model_folder(VIT).name}.old1")
    assert tree(old) == {"notes.txt": b"mine"}
    assert (model_folder(VIT) / "config.json").read_bytes() == b"{1}" and unlisted_models() == []


def test_files_copied_by_hand_are_kept_next_to_a_pull(hub):
    write_files(model_folder(VIT), {"model.onnx": b"mine"})
    hub.add(VIT, FILES)
    pull(request(hub))
    assert tree(model_folder(VIT).with_name(f"{model_folder(VIT).name}.old1")) == {"model.onnx": b"mine"}
    assert (model_folder(VIT) / "model.onnx").read_bytes() == ONNX


def test_a_file_from_outside_the_hub_is_verified_by_the_catalogs_hash_and_gets_no_token(hub):
    data = b"tensors" * 1000
    hub.add("a/b", {"net.pt": data})
    entry = CatalogEntry(
        "net", "a/net", ("net.pt",), len(data), "x", "v1", url=f"{hub.url}/release/x/net.pt", sha256=sha256(data)
    )
    assert pull(PullRequest("a/net", entry)) == PulledModel(
        "a/net", "v1", {"net.pt": PulledFile(len(data), sha256(data))}
    )
    assert [headers.get("authorization") for _, _, headers in hub.requests] == [None]
    hub.damaged["net.pt"] = data[::-1]
    with pytest.raises(PrepError, match="damaged"):
        pull(PullRequest("a/other", replace(entry, repo_id="a/other")))
    hub.status = 404
    with pytest.raises(PrepError, match=f"{hub.url} answers 404"):
        pull(PullRequest("a/third", replace(entry, repo_id="a/third")))
