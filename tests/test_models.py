"""Models: found in folders and by name, pulled whole or not at all, and every refusal in one sentence."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pipeline.models.pull
import pipeline.models.store
from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.models.catalog import CATALOG, CatalogEntry, known, short_name
from pipeline.models.hub_files import choose_files
from pipeline.models.pull import PullRequest, part_of, pull
from pipeline.models.store import (
    RECORD,
    LocalModel,
    Pulled,
    PulledFile,
    find_model,
    format_bytes,
    hashes,
    home_of,
    install_hint,
    kind_of,
    models_folder,
    read_record,
    state_of,
    unlisted_models,
    verify_files,
)
from pipeline.registry import TAGGERS
from tests.hub import Hub, git_sha1, serve
from tests.make import workspace as make_workspace

VIT = "SmilingWolf/wd-vit-tagger-v3"
ONNX = bytes(range(256)) * 1200  # 307,200 bytes
FILES = {
    "README.md": b"# a model\n",
    "config.json": b"{}\n",
    "model.onnx": ONNX,
    "model.safetensors": b"other weights",
    "pytorch_model.bin": b"a pickle",
    "saved_model.pb": b"a graph",
    "selected_tags.csv": b"tag_id,name,category,count\n",
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A folder of models of the test's own, a token, no proxy between, and no waiting between tries."""
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # for processes of their own; this one has read it already
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 20_000)  # what a break can lose
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    return tmp_path / "models"


@pytest.fixture
def hub():
    with serve(Hub()) as hub:
        yield hub


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path / "smith")


def wish(hub, model=VIT, revision="main", files=()):
    return PullRequest.of(model, revision, files, hub.url)


def sha(data):
    return hashlib.sha256(data).hexdigest()


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- where models lie ----------------------------------------------------------------------------


def test_the_folder_of_models_is_the_users_cache(monkeypatch, tmp_path):
    assert models_folder() == tmp_path / "models"
    monkeypatch.delenv("PREP_MODELS")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", "/somebody")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert models_folder() == Path("/cache/prep/models")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert models_folder() == Path("/somebody/.cache/prep/models")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert models_folder() == Path("/somebody/.cache/prep/models")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert models_folder() == Path("/somebody/Library/Caches/prep/models")
    assert home_of(VIT).name == "SmilingWolf--wd-vit-tagger-v3"


def put(folder, **files):
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name.replace("_", ".", 1)).write_bytes(data)
    return folder


def test_a_plain_folder_is_found_relative_absolute_and_by_tilde(workspace, tmp_path, monkeypatch):
    folder = put(workspace.root / "my-tagger", model_onnx=b"1")
    expected = LocalModel(folder, "my-tagger", "")
    assert find_model("my-tagger", workspace, ("model.onnx",)) == expected
    assert find_model("./my-tagger", workspace, ("model.onnx",)) == expected
    assert find_model(str(folder), workspace, ("model.onnx",)) == expected
    monkeypatch.setenv("HOME", str(workspace.root))
    assert find_model("~/my-tagger", workspace, ("model.onnx",)) == expected


def test_copied_files_in_the_place_of_a_pull_are_the_model(workspace):
    folder = put(home_of(VIT), model_onnx=b"1", selected_tags_csv=b"2")
    (folder / "selected.tags_csv").rename(folder / "selected_tags.csv")
    for name in ("wd-vit-tagger-v3", VIT):
        assert find_model(name, workspace, ("model.onnx", "selected_tags.csv")) == LocalModel(folder, VIT, "")
    assert state_of(VIT, known(VIT).files) == "here"


MISSING = {
    "short name": ("wd-vit-tagger-v3", "not on this machine", "prep models pull wd-vit-tagger-v3 (379 MB)"),
    "hub id": (VIT, "not on this machine", "prep models pull wd-vit-tagger-v3 (379 MB)"),
    "unknown hub id": ("someone/tagger", "not on this machine", "prep models pull someone/tagger."),
    "typo": ("wd-vit-tager-v3", "neither a folder nor a model", "Did you mean wd-vit-tagger-v3?"),
    "path": ("./wd-vit-tagger-v3", "no model folder", "prep models list"),
    "deep path": ("models/taggers/vit", "no model folder", "prep models list"),
    "backslashes": ("models\\vit", "no model folder", "prep models list"),
    "nobody's home": ("~nobody-of-that-name/vit", "no model folder", "prep models list"),
    "out of the folder": ("../../etc", "no model folder", "prep models list"),
    "dots": ("a/..", "no model folder", "prep models list"),
    "nothing": ("", "No model is named", "prep models list"),
}


@pytest.mark.parametrize("case", MISSING)
def test_a_model_that_is_not_there_says_the_command_the_size_and_the_folder(workspace, home, case):
    model, wrong, mend = MISSING[case]
    (workspace.root / "a").mkdir()
    if case == "dots":
        model = "a/../nothing"
    with pytest.raises(PrepError) as caught:
        find_model(model, workspace, ("model.onnx",))
    assert wrong in caught.value.wrong and mend in caught.value.hint
    assert "\n" not in caught.value.wrong + caught.value.hint
    if "pull" in mend:
        assert str(home) in caught.value.hint


def test_a_folder_that_lacks_files_or_holds_pointers_is_told(workspace):
    folder = put(home_of(VIT), model_onnx=b"1")
    with pytest.raises(PrepError, match=r"lacks selected_tags.csv and b.json"):
        find_model(VIT, workspace, ("model.onnx", "selected_tags.csv", "b.json"))
    assert state_of(VIT, known(VIT).files) == "incomplete"
    (folder / "model.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(PrepError, match="git-lfs pointer"):
        find_model(VIT, workspace, ("model.onnx",))


@pytest.mark.parametrize(
    ("file", "text", "kind"),
    [
        ("model_index.json", '{"_class_name": "StableDiffusionPipeline"}', "StableDiffusionPipeline"),
        ("config.json", '{"architectures": ["GitForCausalLM"]}', "GitForCausalLM"),
        ("config.json", '{"architectures": ["\\u001b[2J"]}', r"\x1b[2J"),
    ],
)
def test_a_folder_of_another_kind_is_told_by_its_own_file(workspace, tmp_path, file, text, kind):
    (tmp_path / file).write_text(text)
    with pytest.raises(
        PrepError, match=rf"holds a model of another kind \({re.escape(kind)}\): it has no a\.b and c\.d"
    ):
        find_model(str(tmp_path), workspace, ("a.b", "c.d"))
    (tmp_path / "a.b").touch()
    with pytest.raises(PrepError, match=r"lacks c\.d"):  # half of what is needed: not another kind, but incomplete
        find_model(str(tmp_path), workspace, ("a.b", "c.d"))


@given(
    st.binary(max_size=40) | st.recursive(st.none() | st.text(), lambda n: st.lists(n)).map(json.dumps).map(str.encode)
)
@example(b'{"architectures": [7]}')
@example(b'{"architectures": []}')
@settings(deadline=None)
def test_any_file_names_a_kind_or_none(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("kind")
    (folder / "config.json").write_bytes(data)
    assert isinstance(kind_of(folder), str)


def test_hashes_are_of_the_bytes_and_read_once(workspace, tmp_path, monkeypatch):
    folder = put(tmp_path / "m", model_onnx=b"12")
    old = folder.stat().st_mtime - 3600
    read = []
    monkeypatch.setattr(pipeline.models.store, "file_sha256", lambda path: read.append(path) or sha(path.read_bytes()))
    monkeypatch.setattr(pipeline.models.store, "_SETTLED", -1)
    found = find_model(str(folder), workspace, ("model.onnx",))
    assert hashes(found, ["model.onnx"]) == (Model("m/model.onnx", sha(b"12"), ""),)
    assert hashes(found, ["model.onnx"]) == (Model("m/model.onnx", sha(b"12"), ""),)
    assert len(read) == 1
    (folder / "model.onnx").write_bytes(b"34")  # the same size
    os.utime(folder / "model.onnx", (old, old))
    assert hashes(found, ["model.onnx"]) == (Model("m/model.onnx", sha(b"34"), ""),)
    assert len(read) == 2 and tree(folder) == {"model.onnx": b"34"}
    other = put(tmp_path / "n", model_onnx=b"5")
    memory = models_folder() / ".sha256.json"
    for gone, paths in ((None, {"m", "n"}), (folder, {"n"})):
        if gone:
            shutil.rmtree(gone)
            (other / "model.onnx").write_bytes(b"6")
        hashes(find_model(str(other), workspace, ("model.onnx",)), ["model.onnx"])
        assert {Path(name).parent.name for name in json.loads(memory.read_text())} == paths


def test_a_file_that_was_just_written_is_not_remembered(workspace, tmp_path):
    """Its clock may not show the next change."""
    folder = put(tmp_path / "m", model_onnx=b"12")
    stamp = (folder / "model.onnx").stat()
    found = find_model(str(folder), workspace, ("model.onnx",))
    assert hashes(found, ["model.onnx"])[0].sha256 == sha(b"12")
    assert not (models_folder() / ".sha256.json").exists()
    (folder / "model.onnx").write_bytes(b"34")
    os.utime(folder / "model.onnx", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert hashes(found, ["model.onnx"])[0].sha256 == sha(b"34")


def test_a_home_that_cannot_be_written_or_read_only_costs_time(workspace, tmp_path, home, monkeypatch):
    monkeypatch.setattr(pipeline.models.store, "_SETTLED", -1)
    home.write_bytes(b"a file where the folder should be")
    found = find_model(str(put(tmp_path / "m", model_onnx=b"12")), workspace, ("model.onnx",))
    assert hashes(found, ["model.onnx"])[0].sha256 == sha(b"12")
    home.unlink()
    home.mkdir()
    for damage in (b"", b"[]", b'{"x": 1}', b"\xff"):
        (home / ".sha256.json").write_bytes(damage)
        assert hashes(found, ["model.onnx"])[0].sha256 == sha(b"12")


def test_sizes_as_people_read_them():
    assert [format_bytes(n) for n in (12, 4_000, 379_000_000, 1_880_000_000, 15_000_000_000)] == [
        "12 bytes",
        "4.0 kB",
        "379 MB",
        "1.9 GB",
        "15 GB",
    ]


def test_the_list_is_a_table_of_different_things():
    assert len({e.name for e in CATALOG}) == len({e.hub for e in CATALOG}) == len(CATALOG)
    for entry in CATALOG:
        assert (entry.size > 1e8 or not entry.size) and entry.files
        assert entry.used_by in (*TAGGERS, "train") and not (entry.sha256 and not entry.url)
        assert known(entry.name) is known(entry.hub) is entry
        assert pipeline.models.store.hub_id(entry.name) == pipeline.models.store.hub_id(entry.hub) == entry.hub
        assert "/" not in entry.name


# --- pull ----------------------------------------------------------------------------------------


def test_a_size_that_nobody_has_said_is_not_made_up(home):
    assert format_bytes(0) == "size unknown"
    assert "prep models pull florence-2-base (size unknown)" in install_hint("florence-community/Florence-2-base")
    sizes = {line.split()[0]: line.split()[1] for line in prep("list").stdout.splitlines()[1 : len(CATALOG) + 1]}
    assert sizes["florence-2-base"] == "unknown" and sizes["sd15"] == "4.3"


@pytest.mark.parametrize("model", ["wd-vit-tagger-v3", "cl-tagger", "qwen3-vl-4b", "deepdanbooru"])
def test_a_model_has_one_short_name_however_it_is_named(home, model):
    names = {short_name(which) for which in (model, known(model).hub, str(home_of(known(model).hub)))}
    assert names == {known(model).hub.rpartition("/")[2]}
    assert short_name("/data/my--tagger") == "tagger" and short_name("mine/") == "mine"


def test_of_a_base_to_train_on_the_parts_are_pulled_and_nothing_else():
    """Parts in full precision and their texts: no half copies, no safety checker, no single-file twins."""
    base = known("sd15")
    texts = ("model_index.json", "unet/config.json", "tokenizer/merges.txt", "tokenizer/vocab.json")
    others = ("v1-5-pruned.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors")
    others += ("safety_checker/model.safetensors", "unet/diffusion_pytorch_model.bin", "v1-5-pruned.ckpt")
    chosen = choose_files(base.hub, (*texts, *base.files[1:], *others), base, ())
    assert set(chosen) == {*texts, *base.files}
    with pytest.raises(PrepError, match=r"has no unet/diffusion_pytorch_model\.safetensors"):
        choose_files(base.hub, (*texts, *base.files[:-1]), base, ())
    large = known("sd35-medium")
    shards = tuple(f"text_encoder_3/model-0000{n}-of-00002.safetensors" for n in (1, 2))
    index = "text_encoder_3/model.safetensors.index.json"
    plain = tuple(name for name in large.files if "*" not in name)
    assert set(choose_files(large.hub, (*plain, *shards, index), large, ())) == {*plain, *shards, index}


def test_a_pull_brings_what_the_tagger_needs_and_records_it(hub, home, workspace):
    commit = hub.add(VIT, FILES)
    told = []
    pulled = pull(wish(hub, "wd-vit-tagger-v3"), report=lambda done, total: told.append((done, total)))
    wanted = {name: FILES[name] for name in ("config.json", "model.onnx", "selected_tags.csv")}
    files = tree(home_of(VIT))
    record = json.loads(files.pop(RECORD))
    assert files == wanted
    assert record["name"] == VIT and record["revision"] == commit
    assert {name: one["sha256"] for name, one in record["files"].items()} == {n: sha(d) for n, d in wanted.items()}
    assert (
        pulled
        == read_record(home_of(VIT))
        == Pulled(VIT, commit, {n: PulledFile(len(d), sha(d)) for n, d in wanted.items()})
    )
    assert told[-1] == (sum(map(len, wanted.values())),) * 2 and told == sorted(told)
    found = find_model("wd-vit-tagger-v3", workspace, ("model.onnx", "selected_tags.csv"))
    assert found == LocalModel(home_of(VIT), VIT, commit)
    assert hashes(found, ["model.onnx"]) == (Model(f"{VIT}/model.onnx", sha(ONNX), commit),)
    assert state_of(VIT, known(VIT).files) == "here" and unlisted_models() == []
    assert {path.name for path in home.iterdir() if path.is_dir()} == {home_of(VIT).name}


def test_the_token_goes_to_the_hub_and_not_to_its_store(hub):
    hub.add(VIT, FILES)
    pull(wish(hub))
    for _, path, headers in hub.asked:
        assert headers.get("authorization") == (None if "/x/" in path else "Bearer hf_secret"), path
    assert sum("/x/model.onnx" in path for _, path, _ in hub.asked) == 1


def test_a_second_pull_asks_nothing_and_a_moved_branch_is_asked_for(hub):
    first = hub.add(VIT, FILES)
    listed = PullRequest.of(VIT, "", (), hub.url)
    hub.branches[VIT, known(VIT).revision] = first
    assert pull(listed).revision == first
    hub.asked.clear()
    assert pull(listed).revision == first and hub.asked == []
    assert pull(listed, offline=True).revision == first
    assert pull(wish(hub)).revision == first and hub.downloads() == []
    second = hub.add(VIT, FILES | {"config.json": b"{1}"})
    assert pull(listed).revision == first
    assert pull(wish(hub)).revision == second
    assert (home_of(VIT) / "config.json").read_bytes() == b"{1}"
    assert pull(wish(hub, revision=first)).revision == first


def test_without_a_revision_the_list_s_commit_is_asked_for(hub):
    hub.add(VIT, FILES)
    with pytest.raises(PrepError, match="no such revision"):
        pull(PullRequest.of(VIT, endpoint=hub.url))
    assert hub.asked[0][1] == f"/api/models/{VIT}/revision/790b0e92cefd2a0221451604e7831fe643ab7c4f"


def test_a_cut_connection_goes_on_where_it_was(hub):
    hub.add(VIT, FILES)
    hub.cut, hub.after = 2, 100_000
    pull(wish(hub, files=("model.onnx",)))
    assert (home_of(VIT) / "model.onnx").read_bytes() == ONNX
    assert set(hub.ranges()) == {"bytes=100000-", "bytes=200000-"}


def broken_off(hub, monkeypatch):
    """Pull until the connection is gone for good after 100,000 bytes of the large file."""
    from huggingface_hub import file_download

    hub.add(VIT, FILES)
    hub.cut, hub.after = 1, 100_000
    real, calls = file_download.http_stream_backoff, []

    def stream(*args, **kwargs):
        calls.append(kwargs["url"])
        if calls.count(kwargs["url"]) > 1:
            kwargs["url"] = kwargs["url"].replace(hub.url, "http://127.0.0.1:9")
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(file_download, "http_stream_backoff", stream)
        with pytest.raises(PrepError) as caught:
            pull(wish(hub))
    return caught.value


def test_a_broken_pull_is_no_model_and_the_next_one_goes_on(hub, home, workspace, monkeypatch):
    error = broken_off(hub, monkeypatch)
    assert "connection" in error.wrong and "kept" in error.hint
    assert "prep models pull wd-vit-tagger-v3 (379 MB)" in error.hint and str(home_of(VIT)) in error.hint
    part = part_of(VIT)
    assert [p.stat().st_size for p in part.glob("model.onnx.*.incomplete")] == [100_000]
    assert not home_of(VIT).exists() and state_of(VIT) == "half pulled" and unlisted_models() == []
    for name in (VIT, str(part)):
        with pytest.raises(PrepError):
            find_model(name, workspace, ("config.json",))
    hub.asked.clear()
    pull(wish(hub))
    assert hub.ranges()[-1] == "bytes=100000-" and set(hub.downloads()) == {"model.onnx"}  # the small ones were whole
    assert (home_of(VIT) / "model.onnx").read_bytes() == ONNX
    assert not part.exists() and set(tree(home_of(VIT))) == {"config.json", "model.onnx", "selected_tags.csv", RECORD}


def test_what_was_begun_of_another_version_is_not_gone_on_with(hub, monkeypatch):
    broken_off(hub, monkeypatch)
    newer = ONNX[::-1]
    hub.add(VIT, FILES | {"model.onnx": newer})
    hub.asked.clear()
    pull(wish(hub))
    assert (home_of(VIT) / "model.onnx").read_bytes() == newer and hub.ranges() == []
    assert not list(home_of(VIT).glob("*.incomplete"))


def test_a_killed_pull_is_no_model(hub, home, workspace, tmp_path):
    """A real process, killed while bytes come in."""
    hub.add(VIT, FILES)
    code = (
        "import os, signal, huggingface_hub.constants as c, pipeline.models.pull as p\n"
        "c.DOWNLOAD_CHUNK_SIZE = 20_000\n"
        f"wish = p.Wish.of({VIT!r}, 'main', (), {hub.url!r})\n"
        "p.pull(wish, report=lambda done, total: done > 100000 and os.kill(os.getpid(), signal.SIGKILL))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=Path(__file__).parent.parent, check=False
    )
    assert done.returncode == -9, done.stderr
    assert not home_of(VIT).exists() and state_of(VIT) == "half pulled"
    assert [0 < p.stat().st_size < len(ONNX) for p in part_of(VIT).glob("model.onnx.*.incomplete")] == [True]
    with pytest.raises(PrepError, match="not on this machine"):
        find_model(VIT, workspace, ())
    pull(wish(hub))
    assert (home_of(VIT) / "model.onnx").read_bytes() == ONNX


@pytest.mark.parametrize("name", ["model.onnx", "config.json"])
def test_bytes_that_do_not_fit_the_servers_hash_are_not_taken(hub, workspace, name):
    hub.add(VIT, FILES)
    hub.lies[name] = FILES[name].replace(
        b"{}" if name == "config.json" else b"\7", b"[]" if name == "config.json" else b"\6"
    )
    assert len(hub.lies[name]) == len(FILES[name])
    with pytest.raises(PrepError) as caught:
        pull(wish(hub))
    kind = sha if name == "model.onnx" else git_sha1
    assert name in caught.value.wrong and "damaged" in caught.value.wrong
    assert kind(FILES[name])[:12] in caught.value.wrong and kind(hub.lies[name])[:12] in caught.value.wrong
    assert not home_of(VIT).exists() and not (part_of(VIT) / name).exists()
    assert not list(part_of(VIT).glob(f"{name}.*.incomplete"))
    hub.lies.clear()
    pull(wish(hub))
    assert (home_of(VIT) / name).read_bytes() == FILES[name]


def test_a_shorter_or_longer_body_is_not_taken(hub):
    hub.add(VIT, FILES)
    for body in (ONNX[:-1], ONNX + b"!"):
        hub.lies["model.onnx"] = body
        with pytest.raises(PrepError, match=r"broke off|damaged"):
            pull(wish(hub))
        assert not home_of(VIT).exists()
    hub.lies.clear()
    pull(wish(hub))
    assert (home_of(VIT) / "model.onnx").read_bytes() == ONNX


def no_network(hub):
    hub.url = "http://127.0.0.1:9"


REFUSALS = {
    "no such model": (lambda hub: hub.commits.clear(), "There is no model", "hf auth login"),
    "wrong token": (lambda hub: setattr(hub, "token", "hf_other"), "does not accept the token", "hf auth login"),
    "private, unknown to strangers": (lambda hub: setattr(hub, "status", 401), "There is no model", "hf auth login"),
    "no such revision": (lambda hub: hub.branches.clear(), "has no such revision", "/commits/main"),
    "file vanished": (lambda hub: hub.gone.add("model.onnx"), "no longer there", "/tree/main"),
    "gated": (lambda hub: hub.gated.add(VIT), "is gated", f"/{VIT}, log in"),
    "forbidden": (lambda hub: setattr(hub, "status", 403), "answers 403", "hf auth login"),
    "another commit": (
        lambda hub: setattr(hub, "commit_said", "0" * 40),
        f"config.json of commit {'0' * 40}, not",
        "pull",
    ),
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
    spoil, wrong, mend = REFUSALS[case]
    hub.add(VIT, FILES)
    spoil(hub)
    with pytest.raises(PrepError) as caught:
        pull(wish(hub))
    assert wrong in caught.value.wrong and mend in caught.value.hint, caught.value
    assert "\n" not in caught.value.wrong + caught.value.hint
    assert not home_of(VIT).exists()
    if case == "gated":
        assert f"Accept them at {hub.url}/{VIT}" in caught.value.hint


def test_offline_asks_nobody(hub):
    hub.add(VIT, FILES)
    with pytest.raises(PrepError, match="--offline or HF_HUB_OFFLINE") as caught:
        pull(wish(hub), offline=True)
    assert hub.asked == [] and str(home_of(VIT)) in caught.value.hint


def test_a_full_disk_is_told_before_and_during(hub, monkeypatch):
    hub.add(VIT, FILES)
    usage = shutil.disk_usage("/")._replace(free=50_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.models.pull.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(PrepError, match=r"has 50 MB free; .* needs 100 MB"):
            pull(wish(hub))
        assert hub.downloads() == []

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pipeline.models.pull._Counted, "write", full)
    with pytest.raises(PrepError, match=r"The disk that holds .* is full"):
        pull(wish(hub))


def test_two_pulls_of_one_model_do_not_mix(hub):
    hub.add(VIT, FILES)
    with pipeline.models.pull._alone(VIT), pytest.raises(PrepError, match="Another prep is pulling"):
        pull(wish(hub))
    pull(wish(hub))


def test_a_newer_pull_replaces_its_own_files_and_keeps_the_users(hub):
    hub.add(VIT, FILES)
    pull(wish(hub))
    (home_of(VIT) / "notes.txt").write_text("mine")
    hub.add(VIT, FILES | {"config.json": b"{1}"})
    pull(wish(hub))
    old = home_of(VIT).with_name(f"{home_of(VIT).name}.old1")
    assert tree(old) == {"notes.txt": b"mine"}
    assert (home_of(VIT) / "config.json").read_bytes() == b"{1}" and unlisted_models() == []


def test_files_copied_by_hand_are_kept_beside_a_pull(hub):
    put(home_of(VIT), model_onnx=b"mine")
    hub.add(VIT, FILES)
    pull(wish(hub))
    assert tree(home_of(VIT).with_name(f"{home_of(VIT).name}.old1")) == {"model.onnx": b"mine"}
    assert (home_of(VIT) / "model.onnx").read_bytes() == ONNX


def test_what_changes_after_a_pull_is_seen(hub, workspace):
    hub.add(VIT, FILES)
    pull(wish(hub))
    assert dict(verify_files(home_of(VIT))) == dict.fromkeys(
        ("config.json", "model.onnx", "selected_tags.csv"), "whole"
    )
    (home_of(VIT) / "selected_tags.csv").write_bytes(FILES["selected_tags.csv"].replace(b"n", b"m"))
    (home_of(VIT) / "model.onnx").write_bytes(ONNX[:-1])
    (home_of(VIT) / "config.json").unlink()
    assert dict(verify_files(home_of(VIT))) == {
        "config.json": "missing",
        "model.onnx": "changed",
        "selected_tags.csv": "changed",
    }
    assert state_of(VIT) == "damaged"
    with pytest.raises(PrepError, match="has 307,199 bytes; 307,200 were pulled"):
        find_model(VIT, workspace, ("model.onnx",))
    pull(wish(hub))
    assert {word for _, word in verify_files(home_of(VIT))} == {"whole"}


# --- the one that is not on the hub, and pickles -------------------------------------------------


def test_a_single_file_from_elsewhere_is_checked_by_the_lists_hash_and_gets_no_token(hub):
    data = b"tensors" * 1000
    hub.add("a/b", {"net.pt": data})
    entry = CatalogEntry(
        "net", "a/net", ("net.pt",), len(data), "x", "v1", url=f"{hub.url}/release/x/net.pt", sha256=sha(data)
    )
    assert pull(PullRequest("a/net", entry)) == Pulled("a/net", "v1", {"net.pt": PulledFile(len(data), sha(data))})
    assert [headers.get("authorization") for _, _, headers in hub.asked] == [None]
    hub.lies["net.pt"] = data[::-1]
    with pytest.raises(PrepError, match="damaged"):
        pull(PullRequest("a/other", replace(entry, hub="a/other")))
    hub.status = 404
    with pytest.raises(PrepError, match=f"{hub.url} answers 404"):
        pull(PullRequest("a/third", replace(entry, hub="a/third")))


def test_a_pickle_of_tensors_becomes_safetensors(hub, tmp_path):
    import torch
    from safetensors.torch import load_file

    weight = torch.arange(6.0).reshape(2, 3)
    state = {"a.weight": weight, "tied.weight": weight, "turned": weight.t(), "half": weight.half()}
    torch.save(state, tmp_path / "m.bin")
    pickle = (tmp_path / "m.bin").read_bytes()
    hub.add("a/blip", {"config.json": b"{}", "pytorch_model.bin": pickle})
    pulled = pull(wish(hub, "a/blip"))
    assert set(tree(home_of("a/blip"))) == {"config.json", "model.safetensors", RECORD}
    assert pulled.files["model.safetensors"].source == f"pytorch_model.bin sha256:{sha(pickle)}"
    assert read_record(home_of("a/blip")) == pulled and {word for _, word in verify_files(home_of("a/blip"))} == {
        "whole"
    }
    loaded = load_file(home_of("a/blip") / "model.safetensors")
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[name], state[name]) for name in state)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("bomb"),))


def test_a_pickle_that_calls_something_is_refused_and_not_run(hub, tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save({"a": Bomb()}, tmp_path / "m.bin")
    for data in ((tmp_path / "m.bin").read_bytes(), b"no pickle", b"", b"PK\3\4"):
        hub.add("a/evil", {"pytorch_model.bin": data})
        with pytest.raises(PrepError, match=r"pickle of more than tensors"):
            pull(wish(hub, "a/evil"))
    torch.save([torch.zeros(1)], tmp_path / "m.bin")
    hub.add("a/evil", {"pytorch_model.bin": (tmp_path / "m.bin").read_bytes()})
    with pytest.raises(PrepError, match="no table of tensors"):
        pull(wish(hub, "a/evil"))
    assert not (tmp_path / "bomb").exists() and not home_of("a/evil").exists()


# --- which files, and what they are called -------------------------------------------------------


def names(*files, entry=None, patterns=()):
    return choose_files("a/b", files, entry, tuple(patterns))


def test_which_files_of_a_repository_are_pulled():
    assert names(
        "README.md", "a.txt", "flax_model.msgpack", "model.safetensors", "pytorch_model.bin", "x.pkl", "onnx/model.onnx"
    ) == {
        "a.txt": "a.txt",
        "model.safetensors": "model.safetensors",
    }
    assert list(names("model.fp16.safetensors", "model.safetensors", "z.json")) == ["z.json", "model.safetensors"]
    assert list(names("model.onnx", "model.onnx_data")) == ["model.onnx", "model.onnx_data"]
    assert set(
        names(
            "model_index.json", "v1-5.safetensors", "unet/config.json", "unet/d.safetensors", "unet/d.fp16.safetensors"
        )
    ) == {
        "model_index.json",
        "unet/config.json",
        "unet/d.safetensors",
    }
    assert list(names("a.safetensors", "b.safetensors", "c.json", patterns=["b.*"])) == ["b.safetensors"]
    cl = known("cl-tagger")
    files = ("cl_tagger_1_02/model.onnx", "cl_tagger_1_02/tag_mapping.json", "cl_tagger_1_01/model.onnx", "x.json")
    assert choose_files(cl.hub, files, cl, ()) == {files[1]: "tag_mapping.json", files[0]: "model.onnx"}
    blip2 = known("blip2-opt-2.7b")
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    texts = ("config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors.index.json")
    assert set(choose_files(blip2.hub, (*texts, *shards, "pytorch_model-00001-of-00002.bin"), blip2, ())) == {
        *texts,
        *shards,
    }
    base = known("blip-base")
    assert list(choose_files(base.hub, (*texts[:3], "pytorch_model.bin"), base, ()))[-1] == "pytorch_model.bin"


@pytest.mark.parametrize(
    ("files", "entry", "patterns"),
    [
        (("config.json", "model.pkl", "model.bin", "model.ckpt"), None, ()),
        (("model.safetensors", "model.pkl"), None, ("*.pkl",)),
        (("config.json", "model.safetensors"), known(VIT), ()),
        ((), None, ()),
    ],
)
def test_a_repository_without_the_weights_is_refused(files, entry, patterns):
    with pytest.raises(PrepError, match=r"has no .* that prep would load"):
        choose_files("a/b", files, entry, patterns)


STRANGE = [
    "./a.json",
    "a//b.json",
    "../a.json",
    "a/../../b.json",
    "/etc/a.json",
    "..\\a.json",
    "C:a.json",
    "~/a.json",
    "a\0.json",
    "a\n.json",
    "",
]


@pytest.mark.parametrize("name", STRANGE)
def test_a_name_that_leads_out_of_the_folder_is_refused(hub, home, name):
    hub.add("a/evil", {"model.safetensors": b"1", name: b"{}"})
    with pytest.raises(PrepError, match="may lie outside its folder"):
        pull(wish(hub, "a/evil"))
    assert [path.name for path in home.rglob("*")] in ([], [".a--evil.lock"])


parts = st.one_of(
    st.sampled_from(["..", ".", "", "a", "C:", "~", "\\", "unet", "model.safetensors", RECORD]), st.text(max_size=6)
)
paths = st.lists(parts, max_size=4).map("/".join)


@given(st.lists(st.tuples(paths, st.sampled_from([".json", ".safetensors", ".bin", ""])).map("".join), max_size=6))
@example(["./prep-model.json", "model.safetensors"])
@settings(deadline=None)
def test_whatever_a_hub_lists_stays_in_the_folder(listed):
    try:
        chosen = choose_files("a/b", tuple(listed), None, ())
    except PrepError as error:
        assert "\n" not in error.wrong
        return
    for inside in chosen.values():
        for kind in (PurePosixPath, PureWindowsPath):
            path = kind(inside)
            assert not path.is_absolute() and not path.drive and ".." not in path.parts
        assert PurePosixPath(inside) != PurePosixPath(RECORD) and inside.endswith((".json", ".safetensors", ".bin"))


@given(
    st.one_of(
        st.binary(max_size=100),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda x: st.dictionaries(
                st.sampled_from(["name", "revision", "files", "size", "sha256", "../x", "/x"]), x
            ),
            max_leaves=8,
        ).map(lambda v: json.dumps(v).encode()),
    )
)
@example(b'{"name": "a/b", "revision": "c", "files": {"../../x": {"size": 1, "sha256": "d"}}}')
@example(b'{"name": "a/b", "revision": "c", "files": {"/etc/x": {"size": 1, "sha256": "d"}}}')
@example(b'{"name": "a/b", "revision": "c", "files": {"x": {"size": Infinity, "sha256": "d"}}}')
@settings(deadline=None)
def test_a_record_is_read_or_told_to_be_damaged(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("m")
    (folder / RECORD).write_bytes(data)
    try:
        pulled = read_record(folder)
    except PrepError as error:
        assert "is damaged" in error.wrong
    else:
        assert all((folder / name).resolve().is_relative_to(folder.resolve()) for name in pulled.files)


# --- the command line ----------------------------------------------------------------------------

PREP = "from pipeline.cli.main import main; main()"


def prep(*args, code=0, **env):
    command = [sys.executable, "-c", PREP, "models", *args]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | env, cwd=Path(__file__).parent.parent, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_the_commands_from_list_to_check(hub, home):
    hub.add(VIT, FILES)
    lines = prep("list").stdout.splitlines()
    assert lines[0].split() == ["model", "size", "used", "by", "state"]
    assert lines[1] == "wd-vit-tagger-v3                379 MB  wd14          not here"
    assert len({line.index("not here") for line in lines[1 : len(CATALOG) + 1]}) == 1 and lines[-1].endswith(str(home))
    away = prep("where", "wd-vit-tagger-v3", code=1)
    assert "prep models pull wd-vit-tagger-v3 (379 MB)" in away.stderr and away.stdout == ""
    offline = prep("pull", "wd-vit-tagger-v3", code=1, HF_HUB_OFFLINE="1", HF_ENDPOINT=hub.url)
    assert "HF_HUB_OFFLINE" in offline.stderr and hub.asked == []
    done = prep("pull", "wd-vit-tagger-v3", "--revision", "main", HF_ENDPOINT=hub.url)
    commit = hub.branches[VIT, "main"]
    assert done.stdout == f"{VIT} at {commit[:12]}, 307 kB, in {home_of(VIT)}\n" and done.stderr == ""
    assert prep("where", "wd-vit-tagger-v3", HF_ENDPOINT=hub.url).stdout.strip() == str(home_of(VIT))
    assert prep("where").stdout.strip() == str(home)
    assert (
        prep("list").stdout.splitlines()[1].endswith("here") and "not here" not in prep("list").stdout.splitlines()[1]
    )
    assert json.loads(prep("list", "--json").stdout.splitlines()[0]) == {
        "name": "wd-vit-tagger-v3",
        "hub": VIT,
        "bytes": 379_000_000,
        "used_by": "wd14",
        "state": "here",
    }
    put(home_of("me/own"), model_safetensors=b"1")
    assert prep("check").stdout.splitlines() == [
        f"whole              {VIT}/config.json",
        f"whole              {VIT}/selected_tags.csv",
        f"whole              {VIT}/model.onnx",
        "copied, no record  me/own",
    ]
    assert prep("list").stdout.splitlines()[len(CATALOG) + 1].split() == ["me/own", "here"]
    (home_of(VIT) / "model.onnx").write_bytes(b"1")
    assert f"changed            {VIT}/model.onnx" in prep("check", "wd-vit-tagger-v3", code=1).stdout
    assert "not on this machine" in prep("check", "blip-large", code=1).stderr
