"""prep init: makes a workspace with a prep.toml that lists every option as a comment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.plural import counted
from pipeline.recipe import Recipe, check_name
from pipeline.shell_words import quoted
from pipeline.stage import Options
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace, write_atomic
from taggers.sidecar.captioned import count_captioned
from taggers.sidecar.files import Files

# Classes whose images are best cropped around faces; detecting them takes time, so it is not the default.
_PEOPLE = frozenset("1boy 1girl actor actress boy child face girl lady man person woman".split())  # noqa: SIM905

_SAMPLES = {"sample_every_epochs": 1}  # a new recipe shows what each epoch has learned

_HEAD = """\
# The recipe of this workspace. Every stage reads its table; options on the command line take precedence.
# A line that begins with '#' shows a default: remove the '#' to change it.
"""


@dataclass(frozen=True, slots=True)
class InitOptions:
    """The contents of a new recipe."""

    subjects: tuple[tuple[str, str, str], ...]  # token, class, folder
    regularization: tuple[tuple[str, str], ...] = ()  # class, folder
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # per table, those that are not the default
    repeats: Mapping[str, int] = field(default_factory=dict)  # per token; the default is 10
    validation: Mapping[str, str] = field(default_factory=dict)  # per token, the folder of held-out images


def init(folder: Path, contents: InitOptions, stages: Mapping[str, type[Options]]) -> Workspace:
    """Write prep.toml into `folder`; PrepError if there is one already or an image folder is missing."""
    workspace = Workspace(folder.resolve())
    if workspace.recipe.exists():
        raise PrepError(f"{workspace.recipe} exists already.", "Edit it, or name another folder.")
    if not contents.subjects:
        raise PrepError("No subject was given.", f"prep init {quoted(folder)} --subject ohwx man PHOTOS")
    parts = [_HEAD]
    parts += [_subject(workspace, entry, contents) for entry in contents.subjects]
    parts += [_regularization(workspace, *entry) for entry in contents.regularization]
    options: dict[str, Mapping[str, Any]] = {"crop": _focus(contents), "train": _SAMPLES, **contents.options}
    parts += [_table(name, stage, options.get(name, {})) for name, stage in stages.items()]
    write_atomic(workspace.recipe, "\n".join(parts).encode())
    try:
        Recipe.read(workspace.recipe, tuple(name.partition(".")[0] for name in stages))
    except PrepError:
        workspace.recipe.unlink()  # two subjects have one token or folder: nothing incomplete stays
        raise
    return workspace


def choose_taggers(chosen: tuple[str, ...], contents: InitOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The taggers of a new recipe, and lines about the captions next to the images; opens no image.

    Without a choice: `files` where images have captions or tags next to them, so that these count and nothing is added
    to them; else `basic`.
    """
    folders = [folder for _, _, folder in contents.subjects]
    folders += [*(folder for _, folder in contents.regularization), *contents.validation.values()]
    paths = (Path(folder).expanduser() for folder in folders)
    found = count_captioned(path for path in paths if path.is_dir())
    if not found.captioned:
        return chosen or ("basic",), ()
    suffixes = ", ".join(f"{escape_control(suffix)} {count:,}" for suffix, count in sorted(found.suffixes.items()))
    line = f"captions next to {found.captioned:,} of {counted(found.images, 'image')} ({suffixes})"
    if chosen and Files.name not in chosen:
        return chosen, (f"{line} are not read; to read them, add to prep.toml: [tag.files]",)
    lines = [f"{line}: [tag.files] in prep.toml reads them"]
    others = [name for name in chosen if name != Files.name]
    if (missing := found.images - found.captioned) and not others:
        named = ", ".join(map(escape_control, found.without)) + (", ..." if missing > len(found.without) else "")
        lines.append(
            f"{counted(missing, 'image')} without one ({named}): write it, or add a tagger to prep.toml: [tag.wd14]"
        )
    return chosen or (Files.name,), tuple(lines)


def _focus(contents: InitOptions) -> dict[str, str]:
    classes = {class_name.lower() for _, class_name, _ in contents.subjects}
    return {"focus": "face"} if classes & _PEOPLE else {}


def _folder(name: str, workspace: Workspace) -> str:
    """A folder as the user wrote it, made relative to the workspace unless it is absolute."""
    path = Path(name).expanduser()
    if not path.is_dir():
        raise PrepError(f"The folder {name} does not exist.", "Name the folder that holds the subject's images.")
    return name if path.is_absolute() else Path(os.path.relpath(path.resolve(), workspace.root)).as_posix()


def _subject(workspace: Workspace, entry: tuple[str, str, str], contents: InitOptions) -> str:
    token, class_name, folder = entry
    check_name(token, "token")
    check_name(class_name, "class")
    lines = ["[[subject]]", f"token = {_toml(token)}", f"class = {_toml(class_name)}"]
    lines.append(f"folder = {_toml(_folder(folder, workspace))}")
    lines.append(f"repeats = {contents.repeats.get(token, 10)}  # times that an epoch shows each image")
    if held := contents.validation.get(token):
        lines.append(f"validation = {_toml(_folder(held, workspace))}  # held out for validation: never trained on")
    return "\n".join((*lines, ""))


def _regularization(workspace: Workspace, class_name: str, folder: str) -> str:
    check_name(class_name, "class")
    return f"[[regularization]]\nclass = {_toml(class_name)}\nfolder = {_toml(_folder(folder, workspace))}\n"


def _table(name: str, options: type[Options], chosen: Mapping[str, Any]) -> str:
    """A stage's table: the chosen options, and every other with its default as a comment."""
    lines = [f"# {(options.__doc__ or '').strip().splitlines()[0]}", f"[{name}]"]
    for option in options.options():
        mark = "" if option.name in chosen else "# "
        value = chosen.get(option.name, option.default)
        lines.append(f"{mark}{option.name} = {_toml(value)}  # {option.metadata['help']}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value in TOML, whose strings, numbers and lists are written as in JSON."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
