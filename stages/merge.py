"""prep merge: compose one caption per image from the taggers' annotations, with the subject's own tags absorbed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pipeline.errors import PrepError
from pipeline.journal import Journal
from pipeline.plural import counted
from pipeline.record import Record, tagger_of
from pipeline.stage import Stage, Work
from pipeline.tag_text import normalize_tag
from pipeline.workspace import Workspace, file_sha256
from stages.merging.compose import Composer
from stages.merging.effect import set_options, whole_captions
from stages.merging.groups import KeywordGroup, check_groups
from stages.merging.options import MergeOptions
from stages.merging.plan import read_plan, split_owned
from stages.merging.suggest import SuggestOptions, suggest_plan
from stages.merging.thresholds import read_rules, refuse_high_floors

if TYPE_CHECKING:
    from pipeline.manifest import Manifest

_MAX_COUNTED = 100_000  # images; of more, tags are not counted for a note: of a million that takes 5 s
_LISTED = 4  # tags of a note


@dataclass(frozen=True, kw_only=True)
class Merge(MergeOptions, Stage):
    """Write the captions: the trigger, then the tags that are not absorbed."""

    records_per_batch: ClassVar[int] = 500
    notes_once: ClassVar[bool] = True
    threads: ClassVar[bool] = False  # pure Python: threads would wait for one another

    def inputs(self, workspace: Workspace) -> dict[str, str]:
        """Digests of the accepted plan, of people's edits and of the user's taxonomy; empty without one."""
        plan = read_plan(workspace)
        table = workspace.source(self.taxonomy)
        return {
            "plan": plan.digest if plan else "",
            "edits": Journal.read(workspace).digest,
            "taxonomy": file_sha256(table) if self.taxonomy and table.is_file() else "",
        }

    def check_input(self, manifest: Manifest) -> None:
        check_groups(tuple(map(KeywordGroup.read, self.groups)), manifest)
        subjects = manifest.distinct("subject")
        for rule in split_owned(self.absorb):
            owner, equals, tag = rule.partition("=")
            if equals and owner and tag and owner not in subjects:
                raise PrepError(
                    f"merge: {rule!r} names {owner!r}, which is no subject's token.",
                    f"Tokens in prep.toml: {', '.join(sorted(filter(None, subjects)))}.",
                )
        taggers = {name for step in manifest.history for name in (step.stage, tagger_of(step.stage))}
        for rule in read_rules(self.thresholds):
            tagger = rule.partition("/")[0].partition(":")[0]
            if tagger and tagger not in taggers:
                raise PrepError(
                    f"merge: thresholds names {tagger!r}, which has not run.", f"Run it first: prep tag {tagger}"
                )
        refuse_high_floors(manifest.history, self.tag_thresholds)

    def notes(self, manifest: Manifest) -> tuple[str, ...]:
        """Captions that the options do not change, and tags that seem to be the subject's while nobody decided so."""
        workspace = Workspace(manifest.path.parent.parent)
        if manifest.counts.images > _MAX_COUNTED:
            return ()
        whole, kept = whole_captions(manifest, Journal.read(workspace))
        options = ", ".join(set_options(self))
        unchanged = (
            f"{whole:,} of {counted(kept, 'caption')} set as a whole, which these options do not change: {options}"
        )
        suggested = self._suggestions(manifest, workspace) if whole < kept else ()
        return (*([unchanged] if whole and options else []), *suggested)

    def _suggestions(self, manifest: Manifest, workspace: Workspace) -> tuple[str, ...]:
        """Tags that seem to belong to a subject and are in its captions, as long as nobody decided about them."""
        if self.absorb or read_plan(workspace):
            return ()
        by_subject: dict[str, list[str]] = {}
        for row in suggest_plan(SuggestOptions(), self, manifest, workspace).rows:
            if row.action in ("absorb", "review") and row.tag != normalize_tag(row.subject):
                by_subject.setdefault(row.subject, []).append(row.tag)
        return tuple(
            f"{subject} seems to always have {_listed(tags)}. See: prep merge --suggest"
            for subject, tags in by_subject.items()
        )

    def start(self, workspace: Workspace) -> Work:
        return functools.partial(_merge, Composer.of(self, workspace))


def _listed(tags: list[str]) -> str:
    shown, more = tags[:_LISTED], len(tags) - _LISTED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _merge(composer: Composer, records: list[Record]) -> list[Record]:
    return [composer.with_caption(record) for record in records]
