"""prep models: list, pull, check, where."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipeline.cli.run_options import SectionedGroup, print_result, silence
from pipeline.errors import PrepError
from pipeline.models.catalog import CATALOG, CatalogEntry, catalog_entry
from pipeline.models.hub_cache import find_snapshot, verify_snapshot
from pipeline.models.pull_record import verify_files
from pipeline.models.store import (
    CACHED,
    INSTALLED,
    format_bytes,
    install_hint,
    local_folder,
    model_folder,
    models_folder,
    resolve_repo_id,
    state_of,
    unlisted_models,
)
from pipeline.progress import Progress

_MB = 1_000_000


@click.group(cls=SectionedGroup)
def models() -> None:
    """List, download and verify the models that taggers and training use."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the models as JSON lines.")
def list_(as_json: bool) -> None:
    """List the models that prep knows by a short name, and which of them are on this machine.

    Every other model of the Hugging Face Hub can be used by its id (owner/name), and any folder by its
    path. A model that is in your Hugging Face cache is used from there and not downloaded again. Sizes
    are those on disk, and of models that are not on this machine about those of the download.
    """
    rows = [(e.name, e.repo_id, _size(e.repo_id, e), e.used_by, state_of(e.repo_id, e.files)) for e in CATALOG]
    rows += [(repo_id, repo_id, _size(repo_id), "", state_of(repo_id)) for repo_id in unlisted_models()]
    if as_json:
        for name, repo_id, size, used_by, state in rows:
            print_result("", {"name": name, "hub": repo_id, "bytes": size, "used_by": used_by, "state": state}, True)
        return
    name_width = max(len(name) for name, *_ in rows)
    use_width = max(len("used by"), *(len(used_by) for _, _, _, used_by, _ in rows))
    click.echo(f"{'model':<{name_width}}  {'size':>8}  {'used by':<{use_width}}  state")
    for name, _, size, used_by, state in rows:
        click.echo(f"{name:<{name_width}}  {format_bytes(size):>8}  {used_by:<{use_width}}  {state}")
    click.echo(f"\nModels folder: {models_folder()}")


def _size(repo_id: str, entry: CatalogEntry | None = None) -> int:
    """Bytes that a model takes on this machine; of one that is not here, about those of its download."""
    folder = local_folder(repo_id, entry.files if entry else ())
    here = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder else 0
    return here or (entry.size if entry else 0)


@models.command()
@click.argument("name", nargs=-1, required=True)
@click.option(
    "--revision",
    default="",
    metavar="REV",
    help="Commit, branch or tag to download.  [default: the catalog's commit, else main]",
)
@click.option("--files", multiple=True, metavar="PATTERN", help="Download only the files that fit, such as 'unet/*'.")
@click.option("--offline", is_flag=True, help="Do not download; only check that the model is on this machine.")
@click.option(
    "--quiet", "-q", is_flag=True, callback=silence, help="Print errors only: no progress, remarks or results."
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON lines.")
def pull(
    name: tuple[str, ...], revision: str, files: tuple[str, ...], offline: bool, quiet: bool, as_json: bool
) -> None:
    """Download models from the Hugging Face Hub, by short name or hub id.

    Every file is verified against the hash that the hub lists. A model is installed completely or not
    at all; after an interruption the files that are complete are not downloaded again. Only safetensors,
    ONNX and text files are downloaded; where a model has only a pickle, its tensors are converted to
    safetensors without running anything in it. Of a base model prep downloads what it trains and
    generates with: no safety checker, no half-precision variants. A model that is already in your
    Hugging Face cache is not downloaded.
    """
    for model in name:
        _pull_one(model, revision, files, offline, quiet, as_json)


def _pull_one(model: str, revision: str, files: tuple[str, ...], offline: bool, quiet: bool, as_json: bool) -> None:
    from pipeline.models.pull import PullRequest
    from pipeline.models.pull import pull as pull_model

    request = PullRequest.of(model, revision, files)
    entry, repo_id = request.entry, request.repo_id
    if not model_folder(repo_id).is_dir() and (snapshot := find_snapshot(repo_id, files, request.commit)):
        text = f"{repo_id} at {request.commit[:12] or 'main'} is in the Hugging Face cache: {snapshot}"
        print_result(text, {"name": repo_id, "folder": str(snapshot), "state": CACHED}, as_json, quiet)
        return
    with Progress(f"{entry.name if entry else repo_id}, MB", quiet) as progress:
        pulled = pull_model(request, offline, lambda done, total: progress(done // _MB, max(1, total // _MB)))
    size = sum(file.size for file in pulled.files.values())
    folder = model_folder(repo_id)
    result = {"name": repo_id, "revision": pulled.revision, "bytes": size, "folder": str(folder)}
    text = f"{repo_id} at {pulled.revision[:12]}, {format_bytes(size)}, in {folder}"
    print_result(text, result | {"state": INSTALLED, "files": sorted(pulled.files)}, as_json, quiet)


@models.command("check")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the state of each file as JSON lines.")
def check_(name: str | None, as_json: bool) -> None:
    """Hash the files of models again and compare them with what the hub listed.

    Without a name, all models on this machine. States: ok, changed, missing, and "no record" for
    models that were copied by hand. The exit code is 1 when a file is changed or missing.
    """
    repo_ids = [resolve_repo_id(name)] if name else [*(entry.repo_id for entry in CATALOG), *unlisted_models()]
    folders = {repo_id: folder for repo_id in repo_ids if (folder := _folder(repo_id))}
    if name and not folders:
        raise PrepError(f"The model {name} is not on this machine.", install_hint(repo_ids[0]))
    states = [(repo_id, file, state) for repo_id, folder in folders.items() for file, state in _file_states(folder)]
    for repo_id, file, state in states:
        result = {"model": repo_id, "file": file, "state": state}
        print_result(f"{state:<9}  {repo_id}{f'/{file}' if file else ''}", result, as_json)
    if any(state in ("changed", "missing") for _, _, state in states):
        sys.exit(1)


def _folder(repo_id: str) -> Path | None:
    entry = catalog_entry(repo_id)
    return local_folder(repo_id, entry.files if entry else ())


def _file_states(folder: Path) -> list[tuple[str, str]]:
    return list(verify_files(folder)) or list(verify_snapshot(folder)) or [("", "no record")]


@models.command()
@click.argument("name", required=False)
def where(name: str | None) -> None:
    """Print the folder of a model, or the models folder.

    The exit code is 1 when the model is not on this machine; the error names the command to get it.
    """
    if not name:
        click.echo(models_folder())
        return
    repo_id = resolve_repo_id(name)
    entry = catalog_entry(repo_id)
    if (state := state_of(repo_id, entry.files if entry else ())) not in (INSTALLED, CACHED):
        raise PrepError(f"The model {name} is {state}.", install_hint(repo_id))
    click.echo(_folder(repo_id))


models.add("Commands", list_, pull, check_, where)
