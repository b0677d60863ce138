"""Prompt files: what is a prompt and what a flag, whatever either holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PrepError
from training.sampling.prompts import FLAGS, parse_line, read_prompts
from training.sampling.settings import ImageSettings

USUAL = ImageSettings.of("", {"steps": 20, "seed": 7})
# Words as people write prompts: any signs, but a word that begins with two dashes and a letter is a flag.
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12).filter(
    lambda word: not (word.startswith("--") and word[2:3].isascii() and word[2:3].isalpha())
)
PROMPTS = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)
VALUES = {
    "w": st.integers(8, 4096),
    "h": st.integers(8, 4096),
    "d": st.integers(0, 2**63 - 1),
    "s": st.integers(1, 1000),
    "l": st.floats(0, 100, allow_subnormal=False),
    "ss": PROMPTS,
    "n": PROMPTS,
}
FLAGGED = st.dictionaries(st.sampled_from(list(FLAGS)), st.none(), max_size=6).flatmap(
    lambda chosen: st.fixed_dictionaries({flag: VALUES[flag] for flag in chosen})
)


@given(PROMPTS, FLAGGED)
def test_prompt_and_flags_come_back(prompt, flags):
    line = " ".join([prompt, *(f"--{flag} {value}" for flag, value in flags.items())])
    found = parse_line(line, USUAL, "here")
    assert found.prompt == prompt
    assert (found.width, found.height) == (flags.get("w", 0), flags.get("h", 0))
    for flag in FLAGS.keys() - {"w", "h"}:
        name = FLAGS[flag][0]
        assert found.values()[name] == flags.get(flag, USUAL.values()[name])


@given(st.text(max_size=60))
def test_any_line_is_read_or_refused(line):
    try:
        found = parse_line(line, USUAL, "here")
    except PrepError as error:
        assert str(error).startswith("here")
    else:
        assert line.strip().startswith(found.prompt)


@pytest.mark.parametrize(
    ("line", "prompt"),
    [
        ("w 512, a man --w 256", "w 512, a man"),
        ("n foo --n bar", "n foo"),
        ("d", "d"),
        ("smith -- portrait, a--b, 5 --6", "smith -- portrait, a--b, 5 --6"),
        ("  smith   man  ", "smith   man"),
        ("smith\t--s\t3", "smith"),
    ],
)
def test_a_prompt_is_never_eaten(line, prompt):
    assert parse_line(line, USUAL, "here").prompt == prompt


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--w 512", "here has no prompt before '--w 512'."),
        ("smith --q 3", "here has --q, which prep does not know."),
        ("smith --ar 16:9", "here has --ar, which prep does not know."),
        ("smith --w", "here: --w is ''."),
        ("smith --w wide", "here: --w is 'wide'."),
        ("smith --s 2.5", "here: --s is '2.5'."),
        ("smith --w 64 --w 32", "here has --w twice."),
        ("smith --d -1", "here: the seed is -1."),
        ("smith --l nan", "here: cfg_scale is nan."),
        ("smith --l -2", "here: cfg_scale is -2."),
    ],
)
def test_what_makes_no_sense_is_refused(line, said):
    with pytest.raises(PrepError) as caught:
        parse_line(line, USUAL, "here")
    assert caught.value.wrong == said


def test_a_file(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeff# for smith\n\nsmith\nsmith man --d 3\n  # not this\nsmith on a beach\n", "utf-8")
    found = read_prompts(file, USUAL)
    assert [(one.prompt, one.noise.seed) for one in found] == [("smith", 7), ("smith man", 3), ("smith on a beach", 9)]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "holds no prompt"), (b"# nothing\n", "holds no prompt"), (b"\xff\xfe\x00", "is not valid UTF-16")],
)
def test_a_file_without_prompts(tmp_path, content, said):
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(PrepError, match=said):
        read_prompts(file, USUAL)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(PrepError, match="No such file"):
        read_prompts(tmp_path / "none.txt", USUAL)


def test_a_faulty_line_is_named(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("smith\n\nsmith --x 3\n")
    with pytest.raises(PrepError, match=r"prompts.txt, line 3 has --x"):
        read_prompts(file, USUAL)
