"""prep adopt: takes over, as decisions, what was changed by hand in dataset/ and in the folders of images."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from pipeline.edits import Edit
from pipeline.journal import Decision, Journal
from pipeline.kohya_folders import parse_folder_name
from pipeline.manifest import read_if_valid
from pipeline.orphans import ChangedCaption, Orphan, caption_beside, changed_captions, find_orphans, text_digest
from pipeline.plural import counted
from pipeline.recipe import Recipe
from pipeline.record import ROOT_LENGTH, root_of
from pipeline.sources import scan
from pipeline.stage import ProgressFn
from pipeline.tag_text import escape_control
from pipeline.text_files import TextFault
from pipeline.workspace import Workspace, file_sha256
from stages.building.changes import BuiltImage, HandChanges, find_changes, named, without_sources


@dataclass(frozen=True, slots=True)
class Adoption:
    """What can be taken over, and what cannot."""

    decisions: tuple[Decision, ...] = ()
    taken: tuple[str, ...] = ()  # lines about the decisions
    left: tuple[str, ...] = ()  # lines about the rest, with what to do


def plan_adoption(workspace: Workspace, recipe: Recipe, report: ProgressFn) -> Adoption:
    """Compare dataset/ with the last build, and decisions with the images that there are now; changes nothing."""
    journal = Journal.read(workspace)
    sources = {record.id: record.source for record in scan(workspace, recipe, report).records if record.kept}
    return _joined(
        adopt_dataset(workspace, recipe, journal, sources),
        _carry_over(list(find_orphans(journal, sources))),
        _reread(list(changed_captions(journal, workspace, sources))),
    )


def keep_as_is(workspace: Workspace, recipe: Recipe, report: ProgressFn) -> Adoption:
    """Decisions that leave all captions as prep has them: changed images and caption files count as seen."""
    journal = Journal.read(workspace)
    sources = {record.id: record.source for record in scan(workspace, recipe, report).records if record.kept}
    orphans = [orphan for orphan in find_orphans(journal, sources) if orphan.new_id]
    files = [one for one in changed_captions(journal, workspace, sources) if not one.fault]
    decisions = [Decision(orphan.new_id, Edit("reset"), orphan.name) for orphan in orphans]
    for one in files:
        edits = journal.of(one.id)
        whole = bool(edits) and edits[0].what == "set"
        edit = Edit("set", journal.with_caption(one.id, "")) if whole else Edit("reset")
        decisions.append(Decision(one.id, edit, one.name, text_digest(one.text)))
    names = sorted({decision.name.rpartition("/")[2] for decision in decisions})
    return Adoption(tuple(decisions), (f"kept as prep has them: {escape_control(', '.join(names))}",) if names else ())


def adopt_dataset(workspace: Workspace, recipe: Recipe, journal: Journal, sources: Collection[str]) -> Adoption:
    """What was changed by hand in dataset/, as decisions; `sources` are the ids of the user's images."""
    manifest = read_if_valid(workspace.manifest("build"))
    if manifest is None:
        return Adoption()
    changes = without_sources(find_changes(manifest, workspace, journal), sources, workspace)
    if not changes:
        return Adoption()
    step = next(step for step in reversed(manifest.history) if step.stage == "build")
    class_captions = step.params["regularization"] == "split"
    ids = manifest.table(["id"]).column("id").to_pylist()
    return _joined(
        _captions(changes, class_captions),
        _deletions(changes, ids),
        _additions(changes, workspace, recipe, journal),
        Adoption(left=tuple(_not_taken(changes))),
    )


def write_decisions(workspace: Workspace, adoption: Adoption) -> None:
    """Write the decisions to the journal; each is its own step of undo."""
    Journal.read(workspace).append_each(workspace, adoption.decisions)


def _joined(*parts: Adoption) -> Adoption:
    return Adoption(
        tuple(decision for part in parts for decision in part.decisions),
        tuple(line for part in parts for line in part.taken),
        tuple(line for part in parts for line in part.left),
    )


def _captions(changes: HandChanges, class_captions: bool) -> Adoption:
    """Rewritten captions, each set as a whole; `class_captions`: those of regularization images are their class."""
    readable = [change for change in changes.captions if not change.fault]
    fixed = [change.image for change in readable if class_captions and change.image.role == "reg"]
    taken = [change for change in readable if change.image not in fixed]
    left = [f"{escape_control(change.fault)}: save it as UTF-8" for change in changes.captions if change.fault]
    if fixed:
        left.append(f"{_counted(fixed, 'caption')} of images that build makes regularization: it is always the class")
    return Adoption(
        tuple(Decision(change.image.id, Edit("set", change.text)) for change in taken),
        (f"{_counted([change.image for change in taken], 'caption')} rewritten in dataset/",) if taken else (),
        tuple(left),
    )


def _deletions(changes: HandChanges, ids: Sequence[str]) -> Adoption:
    """Deleted images, which are dropped; copies of them that are still there stay."""
    if not changes.deleted:
        return Adoption()
    gone = {image.id for image in changes.deleted}
    copies = [id for id in ids if id not in gone and root_of(id) != id and root_of(id) in gone]
    decisions = [Decision(id, Edit("drop")) for id in sorted(gone)] + [Decision(id, Edit("restore")) for id in copies]
    return Adoption(tuple(decisions), (f"{_counted(changes.deleted, 'image')} deleted in dataset/: dropped",))


def _additions(changes: HandChanges, workspace: Workspace, recipe: Recipe, journal: Journal) -> Adoption:
    """Added images: their captions are decisions already, but the images must be copied to those of their subject."""
    decisions, left = [], []
    for path in changes.added:
        image = workspace.path(path)
        try:
            text = caption_beside(image)
        except TextFault as fault:
            text = None
            left.append(f"the caption of {escape_control(image.name)} {fault}: save it as UTF-8")
        id = file_sha256(image)[:ROOT_LENGTH]
        if text is not None and (edit := Edit("set", text)) not in journal.of(id):
            decisions.append(Decision(id, edit, path))
        folder = _source_folder(path, workspace, recipe)
        command = shlex.join(["cp", "-n", str(image), folder]) if folder else "copy it to the images of its subject"
        left.append(f"{escape_control(image.name)} was added to dataset/: {escape_control(command)}")
    taken = f"{counted(len(decisions), 'caption')} of images added to dataset/, for when they are copied"
    return Adoption(tuple(decisions), (taken,) if decisions else (), tuple(left))


def _source_folder(path: str, workspace: Workspace, recipe: Recipe) -> str:
    """The folder of the images whose dataset folder holds `path`; empty if prep.toml has none."""
    spec = parse_folder_name(path.partition("/")[2].rpartition("/")[0])
    for folder in recipe.folders if spec else ():
        token = folder.token or folder.class_name
        if spec and folder.role == spec.role and not folder.generated and spec.text.startswith(token):
            return str(workspace.source(folder.path))
    return ""


def _not_taken(changes: HandChanges) -> Iterator[str]:
    """What is no decision about an image, and what to do instead."""
    if changes.uncaptioned:
        yield f"{_counted(changes.uncaptioned, 'caption file')} deleted: prep edit NAME --set TEXT sets another caption"
    if changes.replaced:
        yield f"{_counted(changes.replaced, 'image')} replaced: change them in their own folder instead"
    if changes.moved:
        yield f"{_counted(changes.moved, 'image')} moved: repeats, classes and folders are those of prep.toml"


def _carry_over(orphans: Sequence[Orphan]) -> Adoption:
    """Decisions about images that were changed since, for the images of the same names."""
    found = [orphan for orphan in orphans if orphan.new_id]
    decisions = [Decision(orphan.new_id, edit, orphan.name, orphan.file) for orphan in found for edit in orphan.edits]
    names = ", ".join(sorted({escape_control(orphan.name.rpartition("/")[2]) for orphan in found}))
    gone = [orphan for orphan in orphans if not orphan.new_id and not orphan.name.startswith("dataset/")]
    about = sorted({escape_control(orphan.name.rpartition("/")[2]) for orphan in gone if orphan.name})
    left = f"decisions about {counted(len(gone), 'image')} that {'is' if len(gone) == 1 else 'are'} gone"
    return Adoption(
        tuple(decisions),
        (f"decisions about {names}, which changed since, carried over",) if found else (),
        (f"{left}{': ' + ', '.join(about[:5]) if about else ''}",) if gone else (),
    )


def _reread(changed: Sequence[ChangedCaption]) -> Adoption:
    """Imported captions whose files were changed."""
    readable = [one for one in changed if not one.fault]
    decisions = [Decision(one.id, Edit("set", one.text), one.name, text_digest(one.text)) for one in readable]
    names = ", ".join(escape_control(one.name.rpartition("/")[2]) for one in readable)
    return Adoption(
        tuple(decisions),
        (f"changed caption files of {names}",) if readable else (),
        tuple(f"the caption file of {escape_control(one.name)} {one.fault}" for one in changed if one.fault),
    )


def _counted(images: Sequence[BuiltImage], noun: str) -> str:
    return f"{counted(len(images), noun)} ({escape_control(named(images))})"
