"""Styles: named texts from a styles.csv of WebUI that are added to prompts; and comments in prompts."""

from __future__ import annotations

import csv
import difflib
import io
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from pipeline.text_files import TextFault, read_text

_WHOLE_LINE = re.compile(r"(?:^|\n)#[^\n]*(?:\n|$)")
_REST_OF_LINE = re.compile(r"#[^\n]*(?:\n|$)")
_PLACE = "{prompt}"  # in a style: where the prompt goes
_FORMAT = "A styles file is CSV with the columns name, prompt and negative_prompt, as WebUI writes it."


@dataclass(frozen=True, slots=True)
class Style:
    """Texts that are added to the prompt and to the negative prompt."""

    prompt: str
    negative: str


def strip_comments(text: str) -> str:
    """A prompt without its comments, which begin at '#' and end with the line."""
    return _REST_OF_LINE.sub("\n", _WHOLE_LINE.sub("\n", text))


def apply_styles(prompt: str, styles: list[str]) -> str:
    """A prompt with the texts of styles: each takes the prompt in the place of '{prompt}', or follows it."""
    prompt = strip_comments(prompt).strip()
    for style in styles:
        style = strip_comments(style).strip()
        if _PLACE in style:
            prompt = style.replace(_PLACE, prompt)
        elif style:
            prompt = f"{prompt}, {style}" if prompt else style
    return prompt


def read_styles(path: Path) -> dict[str, Style]:
    """The styles of a file by name; PrepError when it cannot be read or has other columns.

    The older column 'text' is read as well; rows without a name, or with a name that begins with '#', are left out.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
        columns = set(reader.fieldnames or ())
        rows = list(reader)
    except OSError as error:
        raise PrepError(f"The styles file {path} cannot be read: {error.strerror}.", _FORMAT) from None
    except TextFault as error:
        raise PrepError(f"The styles file {path} {error}.", _FORMAT) from None
    except csv.Error as error:
        raise PrepError(f"The styles file {path} is not CSV: {error}.", _FORMAT) from None
    if "name" not in columns or not columns & {"prompt", "text"}:
        raise PrepError(f"The styles file {path} has other columns.", _FORMAT)
    text = "prompt" if "prompt" in columns else "text"
    named = {row["name"]: row for row in rows if row["name"] and not row["name"].startswith("#")}
    return {name: Style(row[text] or "", row.get("negative_prompt") or "") for name, row in named.items()}


def find_styles(names: list[str], styles: dict[str, Style]) -> list[Style]:
    """The styles with these names; PrepError for a name that is not among them."""
    for name in names:
        if name not in styles:
            near = difflib.get_close_matches(name, styles, 3) or list(styles)[:5]
            hint = f"Near: {', '.join(map(escape_control, near))}." if near else "The styles file has no styles."
            raise PrepError(f"There is no style {escape_control(name)!r}.", hint)
    return [styles[name] for name in names]
