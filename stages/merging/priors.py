"""How common tags are among all images of the world that a tagger learned from: the counts beside its model."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.models.file_hashes import find_model_file
from pipeline.tag_text import normalize_tag
from pipeline.workspace import Workspace

TAG_LIST = "selected_tags.csv"


@dataclass(frozen=True, slots=True)
class Priors:
    """The share of all posts that have a tag, by plain tag."""

    shares: Mapping[str, float] = field(default_factory=dict)
    source: str = "nobody counted these tags"  # where they come from, in words


def find_priors(manifest: Manifest, file: str, workspace: Workspace, rename: Callable[[str], str | None]) -> Priors:
    """The counts in the user's file, else those beside the model that tagged the manifest; without either none.

    The model's list must be the very file that the manifest's history names, by its hash.
    """
    if file:
        return read_priors(workspace.source(file), rename)
    for model in (model for step in manifest.history for model in step.models):
        hub, _, name = model.name.rpartition("/")
        if name != TAG_LIST:
            continue
        if path := find_model_file(model):
            return read_priors(path, rename)
        return Priors(source=f"the list of tags of {hub} is not on this machine; name it with --tag-counts FILE")
    return Priors()


def read_priors(path: Path, rename: Callable[[str], str | None]) -> Priors:
    """From a list with the columns name, category and count: a tag's count by that of all posts.

    Every post has one rating (category 9), so their counts add up to all posts. PrepError for another file.
    """
    counts: dict[str, float] = {}
    posts = 0.0
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            if not {"name", "category", "count"} <= set(reader.fieldnames or ()):
                raise PrepError(
                    f"{path} has no columns name, category and count.", f"Name a {TAG_LIST} of a wd14 model."
                )
            for row in reader:
                count = float(row["count"])
                if int(float(row["category"])) == 9:
                    posts += count
                elif (tag := rename(row["name"])) is not None:
                    counts[normalize_tag(tag)] = max(count, counts.get(normalize_tag(tag), 0.0))
    except FileNotFoundError:
        raise PrepError(f"There is no list of tags {path}.", "A relative path starts at the workspace.") from None
    except (csv.Error, UnicodeDecodeError, ValueError, TypeError) as error:
        raise PrepError(f"{path} is not a list of tags: {error}.", f"Name a {TAG_LIST} of a wd14 model.") from None
    if posts <= 0:
        raise PrepError(f"{path} counts no ratings, so the number of posts is not known.", "Take the model's own list.")
    # A count of 0 or of all posts would be certainty; one post more or less is what the list cannot tell.
    shares = {tag: min(max(count, 1.0), posts - 1) / posts for tag, count in counts.items()}
    return Priors(shares, f"{posts:,.0f} posts counted in {path.parent.name}/{path.name}")
