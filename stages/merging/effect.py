"""Whether options of merge change any caption: those that were set as a whole take none, and rules may match no tag."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.errors import PrepError
from pipeline.journal import Journal
from pipeline.manifest import Manifest
from pipeline.plural import counted
from pipeline.tag_text import escape_control, normalize_tag, split_tags
from stages.merging.options import MergeOptions
from stages.merging.plan import split_owned, split_rule
from stages.merging.rewrite import read_rewrites

_RULES = ("absorb", "remove", "replace", "pinned")  # options that name tags which images have


def whole_captions(manifest: Manifest, journal: Journal) -> tuple[int, int]:
    """How many kept images have a caption that was set as a whole, by an import or by hand; and how many are kept."""
    edited = set(journal.ids)
    whole = kept = 0
    for table in manifest.tables(["id", "drop.reason"]):
        for id, drop in zip(table.column("id").to_pylist(), table.column("drop").to_pylist(), strict=True):
            edits = journal.of(id) if edited else ()
            if drop is None and all(edit.what != "drop" for edit in edits):
                kept += 1
                whole += bool(edits) and edits[0].what == "set"
    return whole, kept


def refuse_without_effect(given: Mapping[str, Any], manifest: Manifest, journal: Journal) -> None:
    """PrepError when the given options of merge can change no caption."""
    if not given:
        return
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    whole, kept = whole_captions(manifest, journal)
    if kept and whole == kept:
        raise PrepError(
            f"merge: {flags} would change nothing: all {counted(kept, 'caption')} were set as a whole, by an import or "
            "by hand.",
            f"Edit them instead: {_as_edit(given)}    or have them composed again: prep edit --all --reset",
        )


def unmatched_tags(given: Mapping[str, Any], manifest: Manifest) -> Iterator[str]:
    """A line for each tag that a given rule names and no image has, with the one that was probably meant."""
    if not given.keys() & set(_RULES):
        return
    tags = _tags(manifest)
    for name in _RULES:
        for tag in _named(name, given.get(name, ()), manifest):
            if tag not in tags:
                close = difflib.get_close_matches(tag, tags, n=1)
                meant = f"; did you mean {escape_control(close[0])!r}?" if close else ""
                yield f"--{name}: no image has the tag {escape_control(tag)!r}{meant}"


def set_options(merge: MergeOptions) -> dict[str, Any]:
    """The options that are not as by default: those that change how captions are composed."""
    return {
        option.name: value for option in merge.options() if (value := getattr(merge, option.name)) != option.default
    }


def _named(name: str, rules: Sequence[str], manifest: Manifest) -> Iterator[str]:
    """The normalized tags that the rules of an option name; words and patterns are not looked up."""
    if name in ("remove", "replace"):
        remove, replace = (rules, ()) if name == "remove" else ((), rules)
        yield from (rule.old for rule in read_rewrites(tuple(replace), tuple(remove)) if rule.kind == "tag")
    elif name == "absorb" and rules:
        subjects = manifest.distinct("subject")
        yield from (split_rule(rule, subjects)[1] for rule in split_owned(rules))
    else:
        yield from map(normalize_tag, split_tags(rules))


def _tags(manifest: Manifest) -> set[str]:
    """The normalized tags of a manifest's annotations, whatever their scores."""
    import pyarrow.compute as pc

    path = "annotations.list.element."
    found: set[str] = set()
    for table in manifest.tables([f"{path}text", f"{path}kind"], [f"{path}text", f"{path}kind"]):
        for batch in table.to_batches():
            flat = pc.list_flatten(batch.column("annotations"))
            texts = pc.struct_field(flat, "text").filter(pc.equal(pc.struct_field(flat, "kind").cast("string"), "tag"))
            found.update(map(normalize_tag, pc.unique(texts.cast("string")).to_pylist()))
    return found


def _as_edit(given: Mapping[str, Any]) -> str:
    """The edit that does what the options were given for; of others an example."""
    words = ["prep", "edit", "--all"]
    for name in ("remove", "add"):
        words += [word for text in given.get(name, ()) if ":" not in text for word in (f"--{name}", text)]
    words += [word for rule in _tag_rules(given.get("replace", ())) for word in rule]
    return escape_control(shlex.join(words if len(words) > 3 else [*words, "--add", "TAG"]))


def _tag_rules(replace: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    for text in replace:
        old, _, new = text.rpartition("=")
        if ":" not in old:
            yield "--replace", old, new
