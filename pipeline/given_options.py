"""Options given once on a command line: which they were, and what prep.toml said then, kept beside the manifests."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import PrepError
from pipeline.options import format_value
from pipeline.recipe import Recipe
from pipeline.registry import StagePlan, all_stages, stage_plan, tag_plan
from pipeline.stage import Stage
from pipeline.workspace import RECIPE, Workspace, write_atomic

_FILE = "given"  # manifests/given.json
TAGGERS = "taggers"  # stands for an option where other taggers than those of prep.toml were chosen
Values = dict[str, dict[str, Any]]  # values of options by the label of their stage


@dataclass(frozen=True, slots=True)
class GivenOptions:
    """What the last command that ran a stage by itself was given, and what prep.toml said at that time."""

    given: Values
    recipe: Values  # the values of the same options; without those of a tagger that prep.toml does not have
    labels: list[str]  # of the stages that prep.toml had for it; empty when prep run would leave it out


@dataclass(frozen=True, slots=True)
class Override:
    """An option whose value on a command line is another than in prep.toml."""

    label: str
    option: str
    value: Any
    recipe: Any  # None when prep.toml has no such stage

    def __str__(self) -> str:
        flag = f"--{self.option.replace('_', '-')}"
        flag = flag if self.value is True else flag.replace("--", "--no-", 1) if self.value is False else flag
        value = "" if isinstance(self.value, bool) else f" {format_value(self.value)}"
        return f"{flag}{value}" + ("" if self.recipe is None else f" ({RECIPE}: {format_value(self.recipe)})")


def remember(workspace: Workspace, recipe: Recipe, plan: StagePlan) -> None:
    """Record the options that the plan was given, if they make it another one than prep.toml's; forget older ones."""
    known = _read(workspace)
    entry = _entry(recipe, plan) if overrides(recipe, plan) or not _labels(recipe, plan.name) else None
    if entry is None and plan.name not in known:
        return
    forget(workspace, plan.name) if entry is None else _write(workspace, {**known, plan.name: entry})


def forget(workspace: Workspace, name: str) -> None:
    """From now on prep.toml alone decides about a stage."""
    known = _read(workspace)
    if name in known:
        _write(workspace, {stage: entry for stage, entry in known.items() if stage != name})


def with_given(workspace: Workspace, recipe: Recipe, name: str) -> StagePlan | None:
    """A stage with the options that it was last run with; None when prep.toml alone decides.

    An option whose value in prep.toml was changed since has the new one.
    """
    entry = _read(workspace).get(name)
    if entry is None or entry.labels != _labels(recipe, name):
        return None
    now = _values(_recipe_plan(recipe, name))
    given = {
        label: {
            option: value
            for option, value in options.items()
            if now.get(label, {}).get(option) == entry.recipe.get(label, {}).get(option)
        }
        for label, options in entry.given.items()
    }
    try:
        plan = tag_plan(recipe, given) if name == "tag" else stage_plan(name, recipe, given.get(name, {}))
    except PrepError:
        return None  # an option or a value of another version of prep
    return plan if overrides(recipe, plan) or not entry.labels else None


def overrides(recipe: Recipe, plan: StagePlan) -> list[Override]:
    """The given options in which a plan differs from prep.toml's."""
    ours, chosen = _recipe_plan(recipe, plan.name), {stage.label for stage in plan.stages}
    before = {stage.label: stage for stage in ours.stages}
    found = [
        Override(stage.label, option, value, before[stage.label].values()[option] if stage.label in before else None)
        for stage in plan.stages
        for option, value in plan.given.get(stage.label, {}).items()
        if stage.label not in before or _counts(stage, option, before[stage.label])
    ]
    if chosen != set(before):
        found.insert(0, Override("tag", TAGGERS, sorted(chosen), sorted(before)))
    return found


def command_line(plan: StagePlan) -> str:
    """The command that runs a stage with the options it was given."""
    words = ["prep", plan.name]
    for label, options in plan.given.items():
        words += [label] if plan.name == "tag" else []
        for name, value in options.items():
            words += _words(f"--{name.replace('_', '-')}", value)
    return shlex.join(words)


def _words(flag: str, value: Any) -> Iterator[str]:
    """An option as it is typed."""
    if isinstance(value, bool):
        yield flag if value else flag.replace("--", "--no-", 1)
        return
    for one in value if isinstance(value, list | tuple) else [value]:
        yield from (flag, str(one))


def lasting(recipe: Recipe, plan: StagePlan) -> tuple[str, ...]:
    """A note on the options that hold for one command only, with the lines of prep.toml that make them last."""
    if not (found := overrides(recipe, plan)):
        return ()
    table = f"[{plan.name}]" if plan.name != "tag" else ", ".join(f"[tag.{stage.label}]" for stage in plan.stages)
    lines = [
        f"{one.option} = {json.dumps(_plain(one.value), ensure_ascii=False)}" for one in found if one.option != TAGGERS
    ]
    keep = f"{', '.join(lines)} under {table}" if lines else table
    return (f"this once with {', '.join(map(str, found))}. To keep it, write in {RECIPE}: {keep}",)


def undone(workspace: Workspace, recipe: Recipe, name: str) -> tuple[str, ...]:
    """A note on the options of an earlier command that prep.toml now replaces."""
    plan = with_given(workspace, recipe, name)
    found = overrides(recipe, plan) if plan else []
    return (f"as {RECIPE} says; it was run with {', '.join(map(str, found))}",) if found else ()


def _counts(stage: Stage, option: str, before: Stage) -> bool:
    """Whether a given option makes a difference: another value that can change the result, or other images."""
    if stage.values()[option] == before.values()[option]:
        return False
    return option in (*stage.params(), *stage.names_content, *stage.names_input)


def _entry(recipe: Recipe, plan: StagePlan) -> GivenOptions:
    given: Values = {label: {name: _plain(value) for name, value in o.items()} for label, o in plan.given.items()}
    now = _values(_recipe_plan(recipe, plan.name))
    then = {label: {name: now[label][name] for name in o} for label, o in given.items() if label in now}
    return GivenOptions(given, then, _labels(recipe, plan.name))


def _recipe_plan(recipe: Recipe, name: str) -> StagePlan:
    return tag_plan(recipe, {}) if name == "tag" else stage_plan(name, recipe, {})


def _labels(recipe: Recipe, name: str) -> list[str]:
    """The stages that prep.toml has under this name; none when `prep run` leaves it out."""
    return [stage.label for plan in all_stages(recipe) if plan.name == name for stage in plan.stages]


def _values(plan: StagePlan) -> Values:
    return {stage.label: {name: _plain(value) for name, value in stage.values().items()} for stage in plan.stages}


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _read(workspace: Workspace) -> dict[str, GivenOptions]:
    """The entries by stage; without those that are damaged."""
    try:
        plain = json.loads(workspace.manifest(_FILE).with_suffix(".json").read_bytes())
        return dict(_valid(plain))
    except (OSError, ValueError, AttributeError):
        return {}


def _valid(plain: Mapping[str, Any]) -> Iterator[tuple[str, GivenOptions]]:
    for name, entry in plain.items():
        if isinstance(entry, dict) and entry.keys() == {"given", "recipe", "labels"}:
            parts = [*entry["given"].values(), *entry["recipe"].values()]
            if all(isinstance(part, dict) for part in parts) and isinstance(entry["labels"], list):
                yield name, GivenOptions(**entry)


def _write(workspace: Workspace, entries: Mapping[str, GivenOptions]) -> None:
    plain = {name: {"given": e.given, "recipe": e.recipe, "labels": e.labels} for name, e in entries.items()}
    write_atomic(
        workspace.manifest(_FILE).with_suffix(".json"), json.dumps(plain, ensure_ascii=False, indent=1).encode()
    )
