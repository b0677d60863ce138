"""prep merge: from what the taggers said to one caption, with the subject's own tags folded into its trigger."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.edits import Journal
from pipeline.errors import PrepError
from pipeline.record import Record, tagger_of
from pipeline.stage import Stage, Work, option
from pipeline.workspace import Workspace, file_sha256
from stages.merging.compose import Composer
from stages.merging.groups import KeywordGroup, check_groups
from stages.merging.plan import read_plan
from stages.merging.rewrite import read_rewrites
from stages.merging.suggest import SuggestOptions, suggest_plan
from stages.merging.template import DEFAULT_TEMPLATE, parse_template
from stages.merging.thresholds import Thresholds, read_rules

if TYPE_CHECKING:
    from pipeline.manifest import Manifest

_MANY = 100_000  # images whose tags are not counted just for a note: of a million that takes five seconds
_LISTED = 4  # tags of a note


@dataclass(frozen=True, kw_only=True)
class Merge(Stage):
    """Write the captions: the trigger, then the tags that stay."""

    name: ClassVar[str] = "merge"
    records_per_batch: ClassVar[int] = 500
    notes_once: ClassVar[bool] = True
    threads: ClassVar[bool] = False  # pure Python: threads would only take turns

    absorb: tuple[str, ...] = option(
        [], "Tag the subject always has: it goes into the trigger. 'smith=beard' for one subject.", metavar="TAG"
    )
    remove: tuple[str, ...] = option(
        [],
        "Tag to leave out of every caption; 'word:hat' for all with that word, 'regex:^hat' for a pattern (RE2).",
        metavar="TAG",
    )
    replace: tuple[str, ...] = option(
        [],
        "Tag to write another way, 'hat=cap'; 'word:gray=grey' for a word in tags and sentences, "
        "'regex:^(.*) hat$=\\1 cap' for a pattern (RE2).",
        metavar="OLD=NEW",
    )
    add: tuple[str, ...] = option([], "Keyword to append to every caption.", metavar="TAG")
    groups: tuple[str, ...] = option(
        [],
        "Keywords for some images, by file or id: 'smith-1*.jpg=full body, studio'; as tables: prep.toml, group.",
        metavar="IMAGES=TAGS",
    )
    pinned: tuple[str, ...] = option(
        [], "Tag that comes right after the trigger where it is present, in the order given.", metavar="TAG"
    )
    template: str = option(
        DEFAULT_TEMPLATE,
        "Form of the caption; a place that is empty goes, with what stands around it up to the commas.",
        metavar="TEXT",
    )
    prefix: str = option("", "What {prefix} stands for in the template: words before all others.", metavar="TEXT")
    suffix: str = option("", "What {suffix} stands for in the template: words after all others.", metavar="TEXT")
    trigger: str = option("{token}", "What stands for the subject; {token} and {class} are filled in.", metavar="TEXT")
    threshold: float = option(
        0.0,
        "Lowest score of a tag that enters the caption; 0 takes each model's own, 0.35 where it has none.",
        low=0,
        high=1,
    )
    character_threshold: float = option(
        0.0,
        "The same for tags that name a character; 0 takes each model's own, 0.85 where it has none.",
        low=0,
        high=1,
    )
    thresholds: tuple[str, ...] = option(
        [],
        "Threshold of one tagger, model or category: 'wd14=0.4', 'wd14:wd-vit-tagger-v3=0.3', 'wd14/artist=0.9', "
        "'/character=0.8'.",
        metavar="WHOM=X",
    )
    mcut: bool = option(
        False, "Cut wd14's and deepdanbooru's tags at the largest gap between an image's scores, not at a threshold."
    )
    order: Literal["score", "name"] = option("score", "Order of the tags: highest score first, or by name.")
    max_tags: int = option(0, "Most tags in a caption; 0 for all.", low=0)
    max_tokens: int = option(
        0, "Most CLIP tokens in a caption, 75 fit one window; tags go from the end. 0 for any number.", low=0
    )
    synonyms: bool = option(False, "Write tags that mean the same in one way, by prep's table of kinds and yours.")
    drop_implied: bool = option(False, "Leave out tags that another one implies: hat beside straw hat.")
    taxonomy: str = option(
        "",
        "TOML file that extends prep's own table of kinds: synonyms, implications, protected kinds.",
        cache_key=False,
        metavar="FILE",
    )
    underscores: bool = option(False, "Write long_hair instead of long hair.")
    escape: bool = option(False, "Write \\( and \\) for brackets in tags, as weighted prompts need.")

    def check(self) -> None:
        read_rules(self.thresholds)
        read_rewrites(self.replace, self.remove)
        parse_template(self.template)
        for rule in self.groups:
            KeywordGroup.read(rule)
        if self.mcut and (self.threshold or self.character_threshold):
            raise PrepError("merge: mcut and a threshold were both given.", "Leave one out; thresholds may stay.")

    def inputs(self, workspace: Workspace) -> dict[str, str]:
        """Digests of the accepted plan, of people's edits and of the user's table of kinds; empty without."""
        plan = read_plan(workspace)
        table = workspace.source(self.taxonomy)
        return {
            "plan": plan.digest if plan else "",
            "edits": Journal.read(workspace).digest,
            "taxonomy": file_sha256(table) if self.taxonomy and table.is_file() else "",
        }

    @property
    def tag_thresholds(self) -> Thresholds:
        """Which tags count, as the options say."""
        return Thresholds(self.threshold, self.character_threshold, read_rules(self.thresholds), self.mcut)

    def check_input(self, manifest: Manifest) -> None:
        check_groups(tuple(map(KeywordGroup.read, self.groups)), manifest)
        subjects = manifest.distinct("subject")
        for rule in self.absorb:
            owner, equals, tag = rule.partition("=")
            if equals and owner and tag and owner not in subjects:
                raise PrepError(
                    f"merge: {rule!r} names {owner!r}, which is no subject's token.", "See prep.toml for those."
                )
        taggers = {name for step in manifest.history for name in (step.stage, tagger_of(step.stage))}
        for whom in read_rules(self.thresholds):
            tagger = whom.partition("/")[0].partition(":")[0]
            if tagger and tagger not in taggers:
                raise PrepError(
                    f"merge: thresholds names {tagger!r}, which has not tagged.", f"First: prep tag {tagger}"
                )

    def notes(self, manifest: Manifest) -> tuple[str, ...]:
        """Tags that seem to be a subject's own and stay in its captions, where nobody has decided about them."""
        workspace = Workspace(manifest.path.parent.parent)
        if self.absorb or manifest.counts.images > _MANY or read_plan(workspace):
            return ()
        own: dict[str, list[str]] = {}
        for row in suggest_plan(SuggestOptions(), self, manifest, workspace).rows:
            if row.action in ("absorb", "review"):
                own.setdefault(row.subject, []).append(row.tag)
        return tuple(f"{_listed(tags)}: {subject}'s own? prep merge --suggest" for subject, tags in own.items())

    def start(self, workspace: Workspace) -> Work:
        return functools.partial(_merge, Composer.of(self, workspace))


def _listed(tags: list[str]) -> str:
    shown, more = tags[:_LISTED], len(tags) - _LISTED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _merge(composer: Composer, records: list[Record]) -> list[Record]:
    return [composer.with_caption(record) for record in records]
