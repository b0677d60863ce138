"""prep models: list, pull, check, where."""

from __future__ import annotations

import sys
from typing import Any

import click

from pipeline.cli.run_options import SectionedGroup, print_result
from pipeline.errors import PrepError
from pipeline.models.catalog import CATALOG, known
from pipeline.models.store import (
    format_bytes,
    home_of,
    hub_id,
    install_hint,
    models_folder,
    state_of,
    unlisted_models,
    verify_files,
)
from pipeline.progress import Progress

_MB = 1_000_000


@click.group(cls=SectionedGroup)
def models() -> None:
    """List, get and check the models that taggers and training use."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="The models as JSON lines.")
def list_(as_json: bool) -> None:
    """Say which models prep knows, and which are here.

    Any other model of the hub can be used by its id, and any folder by its path.
    """
    rows = [
        (e.name, e.hub, format_bytes(e.size) if e.size else "unknown", e.used_by, state_of(e.hub, e.files))
        for e in CATALOG
    ]
    rows += [(hub, hub, "", "", state_of(hub)) for hub in unlisted_models()]
    if as_json:
        for name, hub, _, used_by, state in rows:
            number = entry.size or None if (entry := known(hub)) else None
            print_result("", {"name": name, "hub": hub, "bytes": number, "used_by": used_by, "state": state}, True)
        return
    wide = max(len(row[0]) for row in rows)
    uses = max(len(row[3]) for row in rows)
    for name, _, size, used_by, state in (("model", "", "size", "used by", "state"), *rows):
        click.echo(f"{name:<{wide}}  {size:>8}  {used_by:<{uses}}  {state}")
    click.echo(f"\nThey lie in {models_folder()}")


@models.command()
@click.argument("name", nargs=-1, required=True)
@click.option("--revision", default="", metavar="REV", help="This commit, branch or tag.  [the list's, else main]")
@click.option("--files", multiple=True, metavar="PATTERN", help="Only the files that fit, such as 'unet/*'.")
@click.option("--offline", is_flag=True, help="Do not use the network; only see whether the model is here.")
@click.option("--quiet", "-q", is_flag=True, help="No progress and no result lines.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON lines.")
def pull(
    name: tuple[str, ...], revision: str, files: tuple[str, ...], offline: bool, quiet: bool, as_json: bool
) -> None:
    """Get models from the hub, by short name or hub id.

    A pull that was broken off goes on where it was; a model appears whole or not at all. Only
    safetensors, ONNX and text files are taken; where a model has none but a pickle, its tensors
    are read as such and written as safetensors. Of a base model come the parts that prep trains and
    paints with: no safety checker, no copies in half precision.
    """
    from pipeline.models.pull import PullRequest
    from pipeline.models.pull import pull as pull_one

    for model in name:
        wish = PullRequest.of(model, revision, files)
        entry = known(model)
        with Progress(f"{entry.name if entry else wish.hub}, MB", quiet) as progress:
            pulled = pull_one(wish, offline, lambda done, all_: progress(done // _MB, max(1, all_ // _MB)))
        size = sum(entry.size for entry in pulled.files.values())
        plain = {"name": pulled.name, "revision": pulled.revision, "bytes": size, "folder": str(home_of(pulled.name))}
        plain["files"] = sorted(pulled.files)
        text = f"{pulled.name} at {pulled.revision[:12]}, {format_bytes(size)}, in {home_of(pulled.name)}"
        print_result(text, plain, as_json, quiet)


@models.command("check")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="The verdict on each file as JSON lines.")
def check_(name: str | None, as_json: bool) -> None:
    """Read models again and compare them with what was pulled.

    All that are here if none is named. Exit code 1 unless every file is whole.
    """
    here = [entry.hub for entry in CATALOG if home_of(entry.hub).is_dir()] + unlisted_models()
    if name and not home_of(hub_id(name)).is_dir():
        raise PrepError(f"The model {name} is not on this machine.", install_hint(hub_id(name)))
    verdicts = [(hub, file, word) for hub in ([hub_id(name)] if name else here) for file, word in _verdicts(hub)]
    for hub, file, word in verdicts:
        plain: dict[str, Any] = {"model": hub, "file": file, "state": word}
        print_result(f"{word:<18} {hub}{f'/{file}' if file else ''}", plain, as_json)
    if any(word in ("changed", "missing") for _, _, word in verdicts):
        sys.exit(1)


def _verdicts(hub: str) -> list[tuple[str, str]]:
    """Of a model copied by hand nothing is known that its files could be compared with."""
    return list(verify_files(home_of(hub))) or [("", "copied, no record")]


@models.command()
@click.argument("name", required=False)
def where(name: str | None) -> None:
    """Print the folder of a model, or of all models.

    That a model is there is checked: exit code 1, and the command that gets it, if not.
    """
    if not name:
        click.echo(models_folder())
        return
    hub = hub_id(name)
    entry = known(hub)
    if (state := state_of(hub, entry.files if entry else ())) != "here":
        raise PrepError(f"The model {name} is {state}.", install_hint(hub))
    click.echo(home_of(hub))


models.add("Commands", list_, pull, check_, where)
