"""prep.toml, the recipe: the subjects of a project and the options of its stages."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.options import refuse_unknown
from pipeline.record import Role
from pipeline.text_files import TextFault, read_text
from pipeline.workspace import RECIPE

GENERATED = "generated"  # the workspace's folder of generated regularization images


@dataclass(frozen=True, slots=True)
class SubjectTable:
    """A subject to learn: the token that names it, its class, and the folder of its images."""

    token: str
    class_name: str
    folder: str
    repeats: int = 10
    validation: str = ""  # folder of held-out images; empty: only those that build holds out


@dataclass(frozen=True, slots=True)
class RegularizationTable:
    """Images of a class without the subject, so that the model does not forget the class."""

    class_name: str
    folder: str
    generate: int = 0  # how many images `prep generate --regularization` makes; 0: the folder is the user's
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """A folder of images, with their subject, class and role."""

    path: str
    token: str  # empty for regularization
    class_name: str
    role: Role
    generated: bool = False


@dataclass(frozen=True, slots=True)
class GroupTable:
    """Images, by file pattern or id, whose captions share keywords."""

    images: tuple[str, ...]
    keywords: tuple[str, ...]

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules for merge's option `groups`, one per pattern."""
        return tuple(f"{image}={', '.join(self.keywords)}" for image in self.images)


@dataclass(frozen=True, slots=True)
class Recipe:
    subjects: tuple[SubjectTable, ...]
    regularization: tuple[RegularizationTable, ...]
    tables: Mapping[str, Mapping[str, Any]]  # by stage, as read from TOML; checked when the stage is made
    groups: tuple[GroupTable, ...] = ()

    @property
    def folders(self) -> tuple[SourceFolder, ...]:
        """The image folders: those to train on, those held out, then regularization."""
        return (
            *(SourceFolder(s.folder, s.token, s.class_name, "train") for s in self.subjects),
            *(SourceFolder(s.validation, s.token, s.class_name, "val") for s in self.subjects if s.validation),
            *(SourceFolder(r.folder, "", r.class_name, "reg", bool(r.generate)) for r in self.regularization),
        )

    @classmethod
    def read(cls, path: Path, stages: tuple[str, ...]) -> Recipe:
        """Read prep.toml; PrepError for broken TOML, unknown keys, and names that cannot become folders."""
        try:
            data = tomllib.loads(read_text(path))
        except TextFault as fault:
            raise PrepError(f"{path} {fault}.", "Save it as UTF-8.") from None
        except tomllib.TOMLDecodeError as error:
            raise PrepError(f"{path} cannot be read: {error}.", "Correct that line.") from None
        refuse_unknown(data, ("subject", "regularization", "group", *stages), RECIPE)
        subjects = tuple(_subject(table, n) for n, table in enumerate(_tables(data, "subject"), 1))
        regularization = tuple(_regularization(table) for table in _tables(data, "regularization"))
        if not subjects:
            raise PrepError(
                f"{RECIPE} names no subject.", 'Add:\n[[subject]]\ntoken = "smith"\nclass = "man"\nfolder = "raw"'
            )
        _refuse_duplicates([s.token for s in subjects], "token")
        for name in stages:
            if not isinstance(data.get(name, {}), dict):
                raise PrepError(f"{RECIPE}: {name} is {data[name]!r}.", f"It must be a table: [{name}].")
        groups = tuple(_group(table, n) for n, table in enumerate(_tables(data, "group"), 1))
        recipe = cls(subjects, regularization, {name: data[name] for name in stages if name in data}, groups)
        _refuse_duplicates([folder.path for folder in recipe.folders], "folder")
        return recipe


def check_name(text: str, what: str) -> str:
    """`text` if it can be part of a folder name on every system and in kohya's layout; PrepError if not."""
    if not text.strip() or text != text.strip():
        raise PrepError(f"The {what} {text!r} is empty or begins or ends with a space.", "Use a word, such as 'zoe'.")
    if bad := sorted({c for c in text if c in '/\\:*?"<>|' or not c.isprintable()}):
        raise PrepError(
            f"The {what} {text!r} contains {' '.join(map(repr, bad))}.",
            "It becomes part of a folder name: leave that out.",
        )
    if text in (".", "..") or text.endswith("."):
        raise PrepError(f"The {what} {text!r} cannot be part of a folder name.", "Use a word, such as 'zoe'.")
    return text


def _tables(data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    tables = data.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise PrepError(f"{RECIPE}: {name} must be a list of tables.", f"Write [[{name}]] with two brackets.")
    return tables


def _subject(table: Mapping[str, Any], number: int) -> SubjectTable:
    where = f"{RECIPE}: subject {number}"
    refuse_unknown(table, ("token", "class", "folder", "repeats", "validation"), where)
    token, class_name, folder = (_text(table, key, where) for key in ("token", "class", "folder"))
    repeats = table.get("repeats", 10)
    if type(repeats) is not int or repeats < 1:
        raise PrepError(f"{where}: repeats is {repeats!r}.", "It must be a whole number from 1 up.")
    validation = _text(table, "validation", where) if "validation" in table else ""
    return SubjectTable(check_name(token, "token"), check_name(class_name, "class"), folder, repeats, validation)


def _regularization(table: Mapping[str, Any]) -> RegularizationTable:
    where = f"{RECIPE}: regularization"
    refuse_unknown(table, ("class", "folder", "generate", "prompt"), where)
    class_name = check_name(_text(table, "class", where), "class")
    if "generate" not in table and "prompt" not in table:
        return RegularizationTable(class_name, _text(table, "folder", where))
    count, prompt = table.get("generate"), _text(table, "prompt", where)
    if type(count) is not int or count < 1:
        raise PrepError(f"{where}: generate is {count!r}.", "It must be the number of images, from 1 up.")
    if "folder" in table:
        raise PrepError(
            f"{where} has both folder and generate.", f"Leave folder out: images go to {GENERATED}/{class_name}/."
        )
    return RegularizationTable(class_name, f"{GENERATED}/{class_name}", count, prompt)


def _group(table: Mapping[str, Any], number: int) -> GroupTable:
    where = f"{RECIPE}: group {number}"
    refuse_unknown(table, ("images", "keywords"), where, "group")
    images, keywords = (_texts(table, key, where) for key in ("images", "keywords"))
    if bad := next((image for image in images if "=" in image), None):
        raise PrepError(f"{where}: {bad!r} has an equals sign.", "Write ? instead, which matches any character.")
    if bad := next((word for word in keywords if "," in word), None):
        raise PrepError(f"{where}: the keyword {bad!r} has a comma.", "Write it as two keywords.")
    return GroupTable(images, keywords)


def _texts(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = table.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(text, str) and text.strip() for text in value):
        raise PrepError(f"{where} has no {key}.", f'Add: {key} = ["..."]')
    return tuple(value)


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise PrepError(f"{where} has no {key}.", f'Add: {key} = "..."')
    return value


def _refuse_duplicates(names: list[str], what: str) -> None:
    for name in names:
        if sum(other.casefold() == name.casefold() for other in names) > 1:
            raise PrepError(f"{RECIPE} names the {what} {name!r} twice.", f"Give each subject its own {what}.")
