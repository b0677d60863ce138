"""prep init: a new workspace and its prep.toml, with every option written out as a comment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.recipe import Recipe, Regularization, Subject, check_name
from pipeline.stage import Options
from pipeline.workspace import Workspace, write_atomic

_HEAD = """\
# The recipe of this workspace. Every stage reads its table here; options on the command line win.
# A line that begins with '#' shows the default: remove the '#' to change it.
"""


def init(
    folder: Path,
    subjects: list[tuple[str, str, str]],
    regularization: list[tuple[str, str]],
    stages: Mapping[str, type[Options]],
) -> Workspace:
    """Write prep.toml into `folder`; PrepError if there is one already or a picture folder is missing."""
    workspace = Workspace(folder.resolve())
    if workspace.recipe.exists():
        raise PrepError(f"{workspace.recipe} exists already.", "Edit it, or choose another folder.")
    if not subjects:
        raise PrepError("No subject was named.", f"prep init {folder} --subject smith man PICTURES")
    entries = [Subject(check_name(t, "token"), check_name(c, "class"), _folder(f, workspace)) for t, c, f in subjects]
    others = [Regularization(check_name(c, "class"), _folder(f, workspace)) for c, f in regularization]
    write_atomic(workspace.recipe, _text(entries, others, stages).encode())
    try:
        Recipe.read(workspace.recipe, tuple(name.partition(".")[0] for name in stages))
    except PrepError:
        workspace.recipe.unlink()  # two subjects with one token or folder: nothing half-made stays
        raise
    return workspace


def _folder(name: str, workspace: Workspace) -> str:
    """A folder as the user wrote it, made relative to the workspace unless it is absolute."""
    path = Path(name).expanduser()
    if not path.is_dir():
        raise PrepError(f"The folder {name} does not exist.", "Name the folder that holds the subject's pictures.")
    return name if path.is_absolute() else Path(os.path.relpath(path.resolve(), workspace.root)).as_posix()


def _text(subjects: list[Subject], regularization: list[Regularization], stages: Mapping[str, type[Options]]) -> str:
    parts = [_HEAD]
    for s in subjects:
        parts.append(
            f"[[subject]]\ntoken = {_toml(s.token)}\nclass = {_toml(s.class_name)}\n"
            f"folder = {_toml(s.folder)}\nrepeats = {s.repeats}  # how often an epoch shows each picture\n"
        )
    for r in regularization:
        parts.append(f"[[regularization]]\nclass = {_toml(r.class_name)}\nfolder = {_toml(r.folder)}\n")
    parts += [_table(name, options) for name, options in stages.items()]
    return "\n".join(parts)


def _table(name: str, options: type[Options]) -> str:
    lines = [f"# {(options.__doc__ or '').strip().splitlines()[0]}", f"[{name}]"]
    for option in options.options():
        lines += [f"# {option.name} = {_toml(option.default)}  # {option.metadata['help']}"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value as TOML writes it: its strings, numbers and lists look as JSON's."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
