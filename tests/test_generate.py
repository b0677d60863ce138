"""prep generate: images with their settings, in and outside a workspace, made again to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from pipeline.cli.main import cli
from pipeline.commands.generated_table import FILE, GeneratedTable, read_table
from pipeline.errors import Interrupted, PrepError
from pipeline.workspace import Workspace
from tests.adapter_set import taught, write
from tests.control_set import control_net
from tests.generator_set import generator
from tests.shell import prep
from tests.training_set import checkpoint, narrow
from training.sampling.image_text import encode_image, read_text
from training.sampling.settings import ImageSettings

QUICK = ["--size", "64x64", "--steps", "2"]


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """An empty folder to work in, outside of any workspace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "models"))
    return tmp_path


@pytest.fixture
def here(alone, monkeypatch):
    """The same, with the weights of base models already loaded."""
    monkeypatch.setattr(
        "training.sampling.open_generator.open_generator",
        lambda base, *_: generator(base.path.name.replace("narrow", "sd1")),
    )
    return alone


def generate(*words, base=None):
    """What the command prints, one value per line of JSON."""
    command = ["generate", *map(str, words), "--base", str(base or narrow("sd1")), "--json"]
    done = CliRunner().invoke(cli, command, catch_exceptions=False, standalone_mode=False)
    assert done.exception is None, done.exception
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_images_carry_their_settings_and_are_rows(alone):
    """In a process of its own, as users run it."""
    here = alone
    options = [*QUICK, "--seed", 5, "--batch-count", 2, "--negative", "hat", "--sampler", "euler_a", "--json"]
    done = prep("generate", "a cat", "a dog", *options, "--base", narrow("sd1"), cwd=here)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["prompt"], one["seed"]) for one in found] == [("a cat", 5), ("a cat", 6), ("a dog", 5), ("a dog", 6)]
    names = ["00001-5.png", "00002-6.png", "00003-5.png", "00004-6.png"]
    assert sorted(path.name for path in (here / "generated").glob("*.png")) == names
    text = read_text(here / "generated" / names[0])
    assert text.startswith(
        "a cat\nNegative prompt: hat\nSteps: 2, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7"
    )
    assert "Size: 64x64, Model hash: " in text and "Model: narrow" in text
    rows = read_table(here / "generated" / FILE)
    assert [row["file"] for row in rows] == names and {row["sampler"] for row in rows} == {"Euler a"}
    assert all(len(row["base_sha256"]) == len(row["vae_sha256"]) == 64 for row in rows)
    assert set(ImageSettings().everything()) < set(pq.read_schema(here / "generated" / FILE).names)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_an_image_is_made_again_to_the_byte(here, kind):
    options = ["--hires-scale", 2, "--hires-steps", 2, "--hires-upscaler", "Lanczos", "--variation-strength", 0.3]
    (one,) = generate("a (cat:1.2)", *QUICK, *options, "--format", kind, "--sampler", "DPM++ 2M SDE")
    (again,) = generate("--from", one["file"], "--format", kind)
    (first, second) = sorted((here / "generated").glob(f"*.{kind}"))
    assert first.read_bytes() == second.read_bytes() and one["seed"] == again["seed"] > 0
    assert Image.open(first).size == (128, 128)


def test_of_a_batch_one_image_is_made_again_to_the_byte(here):
    found = generate("a cat", *QUICK, "--batch-size", 3, "--seed", 1, "--sampler", "Euler a")
    (again,) = generate("--from", found[1]["file"])
    first, second = (here / "generated" / f"{name}-2.png" for name in ("00002", "00004"))
    assert again["file"] == str(second) and first.read_bytes() == second.read_bytes()


def test_single_options_win_over_the_image(here):
    (one,) = generate("a cat", *QUICK, "--seed", 1, "--hires-scale", 2, "--hires-steps", 1)
    (other,) = generate("a dog", "--from", one["file"], "--steps", 3, "--hires-size", "96x96")
    changed = {name for name in one if one[name] != other[name]}
    assert changed == {"file", "prompt", "steps", "hires_scale", "hires_size", "width", "height"}


def test_the_image_of_another_base_is_refused_unless_that_is_named(here):
    (one,) = generate("a cat", *QUICK, "--seed", 1)
    (here / "prep.toml").write_text(
        f'[[subject]]\ntoken = "a"\nclass = "b"\nfolder = "c"\n[train]\nbase = "{narrow("sd2")}"\n'
    )
    with pytest.raises(PrepError, match="was made with narrow"):
        CliRunner().invoke(cli, ["generate", "--from", one["file"]], catch_exceptions=False, standalone_mode=False)
    assert len(generate("--from", one["file"], base=narrow("sd2"))) == 1


def test_files_of_prompts_and_styles(here):
    (here / "p.txt").write_text("# two\na cat --s 3 --w 128 --h 64\n\na dog --ss Heun --d 9\n")
    (here / "s.csv").write_text('name,prompt,negative_prompt\nink,"ink drawing of {prompt}, black",color\n')
    found = generate("--prompts", "p.txt", *QUICK, "--seed", 4, "--styles", "s.csv", "--style", "ink")
    assert [(one["prompt"], one["negative"], one["seed"], one["steps"], one["sampler"]) for one in found] == [
        ("ink drawing of a cat, black", "color", 4, 3, "DPM++ 2M"),
        ("ink drawing of a dog, black", "color", 9, 2, "Heun"),
    ]
    assert (found[0]["width"], found[0]["height"]) == (128, 64)


def test_image_to_image(here):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40] = (200, 30, 30)
    Image.fromarray(pixels).save(here / "a.png")
    found = {}
    for denoise in (0, 0.3, 1):
        (one,) = generate(
            "a cat", *QUICK, "--init-image", "a.png", "--denoise", denoise, "--seed", 1, "--output", "out"
        )
        found[denoise] = np.asarray(Image.open(one["file"])).astype(int)
    assert (found[0] != found[0.3]).any() and (found[0.3] != found[1]).any()
    assert "Denoising strength: 0.3" in read_text(here / "out" / "00002-1.png")


def test_a_sheet_shows_every_image_of_the_folder(here):
    generate("a <b>cat</b>", *QUICK, "--seed", 1)
    *_, last = generate("a dog", *QUICK, "--seed", 2, "--sheet")
    page = (here / "generated" / "sheet.html").read_text()
    assert last == {"sheet": str(here / "generated" / "sheet.html")}
    assert page.count("data:image/jpeg") == 2 and "a &lt;b&gt;cat" in page and "<b>" not in page


def test_a_stop_keeps_what_is_finished(here, monkeypatch):
    from training.sampling.sampling_pass import BatchSampler

    first_pass, made = BatchSampler.first_pass, []

    def stop(*arguments):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return first_pass(*arguments)

    monkeypatch.setattr(BatchSampler, "first_pass", stop)
    command = ["generate", "a cat", *QUICK, "--batch-count", "5", "--base", str(narrow("sd1"))]
    with pytest.raises(Interrupted, match="2 of 5 images are finished"):
        CliRunner().invoke(cli, command, catch_exceptions=False, standalone_mode=False)
    assert len(list((here / "generated").glob("*.png"))) == len(read_table(here / "generated" / FILE)) == 2


@pytest.mark.parametrize(
    ("words", "wrong", "hint"),
    [
        ([], "There is no prompt", "prep generate"),
        (["a", "--sampler", "Eular"], "no sampler 'Eular'", "Did you mean 'Euler'"),
        (["a", "--size", "63x64"], "63 x 64 pixels cannot be made", "--size 64x64"),
        (["a", "--size", "big"], "--size is 'big'", "512x768"),
        (["--from", "none.png"], "There is no image none.png", ""),
        (["--from", "plain.png"], "carries no settings", ""),
        (["a", "--init-image", "none.png"], "none.png cannot be read", ""),
        (["a", "--output", "plain.png"], "is a file", "--output DIR"),
        (["a", "--style", "x"], "no file of styles", "--styles"),
        (["a", "--prompts", "none.txt"], "none.txt cannot be read", ""),
    ],
)
def test_mistakes_are_answered_before_anything_is_made(here, words, wrong, hint):
    Image.new("RGB", (8, 8)).save("plain.png")
    with pytest.raises(PrepError, match=wrong) as said:
        generate(*words)
    assert hint in said.value.hint
    assert not list(here.glob("generated/*.png"))


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("--hires-denoise", "0.5"), "--hires-denoise has no effect without hires fix."),
        (("--denoise", "0.3"), "--denoise has no effect without an image to begin with."),
        (("--control", "canny=c.png,weigth=2"), "--control has no option 'weigth'."),
        (("--from", "."), ". is a folder."),
    ],
)
def test_options_without_effect_and_slips_are_answered(here, words, wrong):
    with pytest.raises(PrepError) as caught:
        generate("a cat", *QUICK, *words)
    assert caught.value.wrong == wrong and caught.value.hint


def test_the_image_of_a_base_that_is_not_named_says_which_it_was(here):
    (made,) = generate("a cat", *QUICK, "--seed", 1)
    done = CliRunner().invoke(cli, ["generate", "--from", made["file"]])
    assert isinstance(done.exception, PrepError)
    assert "made with the base model 'narrow" in done.exception.wrong and "--base MODEL" in done.exception.hint


def test_without_a_base_there_is_an_answer_and_never_the_toy(here):
    with pytest.raises(PrepError, match="No base model is named"):
        CliRunner().invoke(cli, ["generate", "a"], catch_exceptions=False, standalone_mode=False)


def test_a_damaged_table_and_one_of_an_earlier_prep(tmp_path):
    (tmp_path / FILE).write_bytes(b"PAR1 no more")
    with pytest.raises(PrepError, match="is damaged"):
        GeneratedTable.open(tmp_path)
    import pyarrow as pa

    pq.write_table(pa.table({"file": ["a.png"], "prompt": ["x"], "gone": [1]}), tmp_path / FILE)
    table = GeneratedTable.open(tmp_path)
    assert table.rows[0]["prompt"] == "x" and table.rows[0]["steps"] == 20 and "gone" not in table.rows[0]
    table.save()
    assert read_table(tmp_path / FILE) == table.rows


def test_a_network_and_an_embedding_are_applied_named_and_gone_afterwards(alone):
    work = Workspace(alone)
    write(taught(checkpoint(work, str(narrow("sd1")))), alone / "loras" / "tom.safetensors")
    (alone / "tis").mkdir()
    save_file({"emb_params": torch.ones(2, 64)}, alone / "tis" / "zoex.safetensors")
    folders = ["--lora-dir", "loras", "--embeddings-dir", "tis", *QUICK, "--seed", 1]
    found = generate("a cat", "a cat <lora:tom:0>", "a cat <lora:tom:0.8>", "a cat", "a zoex cat", *folders)
    bare, zero, full, after, embedded = (np.asarray(Image.open(one["file"])) for one in found)
    assert (bare == zero).all() and (bare == after).all() and (bare != full).any() and (bare != embedded).any()
    texts = [read_text(Path(one["file"])) for one in found]
    assert 'Lora hashes: "tom: ' in texts[2] and "Lora hashes" not in texts[0]
    assert 'TI hashes: "zoex: ' in texts[4] and "TI hashes" not in texts[2]
    rows = read_table(alone / "generated" / FILE)
    assert rows[2]["networks"].startswith("tom: ") and not rows[3]["networks"]
    with pytest.raises(PrepError, match="no file for the network 'tim'") as said:
        generate("a <lora:tim:1>", *folders)
    assert "tom" in said.value.hint


def test_a_controlled_image_is_made_again_and_says_what_controlled_it(alone):
    net = control_net(generator("sd1").parts.modules["unet"], channels=(4, 8, 16, 16))
    net.save_pretrained(alone / "canny")
    Image.fromarray(np.kron(np.eye(8, dtype=np.uint8) * 255, np.ones((8, 8), np.uint8))).save(alone / "photo.png")
    (plain,) = generate("a cat", *QUICK, "--seed", 1)
    (one,) = generate("a cat", *QUICK, "--seed", 1, "--control", "canny=photo.png,model=canny,weight=0.9,resolution=64")
    (again,) = generate("--from", one["file"])
    bare, first, second = (Path(made["file"]) for made in (plain, one, again))
    assert first.read_bytes() == second.read_bytes()
    assert (np.asarray(Image.open(bare)) != np.asarray(Image.open(first))).any()
    assert 'ControlNet 0: "Module: canny, Model: canny [' in read_text(first)
    assert read_table(alone / "generated" / FILE)[1]["controls"].startswith("Module: canny")
    second.rename(alone / "elsewhere.png")
    with pytest.raises(PrepError, match="made from another image") as said:
        generate("--from", alone / "elsewhere.png")
    assert "--control" in said.value.hint


@pytest.mark.parametrize("last", ["Batch size: many", "Batch size: 99999", "Steps: 0"])
def test_hostile_texts_are_answered(here, last):
    text = f"a\nSeed: 1, Size: 64x64, Model: x, {last}"
    (here / "a.png").write_bytes(encode_image(Image.new("RGB", (8, 8)), text, "png"))
    with pytest.raises(PrepError):
        generate("--from", "a.png")


def test_of_another_programs_image_what_does_not_apply_is_said(here, caplog):
    text = (
        "a\nSteps: 2, Sampler: Euler a, Seed: 1, Size: 64x64, Tiling: True, Face restoration: GFPGAN, Version: v1.10.1"
    )
    (here / "a.png").write_bytes(encode_image(Image.new("RGB", (8, 8)), text, "png"))
    (one,) = generate("--from", "a.png")
    assert one["sampler"] == "Euler a" and "Not applied, because prep has no such setting: Tiling, Face" in caplog.text
