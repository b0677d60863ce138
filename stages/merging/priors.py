"""How common tags are on the site that a tagger was trained on, from the counts in its selected_tags.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.models.file_hashes import find_model_file
from pipeline.tag_text import normalize_tag
from pipeline.text_files import TextFault, read_text
from pipeline.workspace import Workspace

TAG_LIST = "selected_tags.csv"
_HINT = f"Give the {TAG_LIST} of a WD14 model: --tag-counts FOLDER/{TAG_LIST}"


@dataclass(frozen=True, slots=True)
class Priors:
    """The share of all posts that have a tag, by normalized tag."""

    shares: Mapping[str, float] = field(default_factory=dict)
    source: str = ""  # where the shares come from
    missing: str = ""  # why there are none


def find_priors(manifest: Manifest, file: str, workspace: Workspace, rename: Callable[[str], str | None]) -> Priors:
    """The counts in the user's file, else those of the model that tagged the manifest; without either none.

    The model's list must have the hash that the manifest's history records.
    """
    if file:
        return read_priors(workspace.source(file), rename)
    for model in (model for step in manifest.history for model in step.models):
        hub, _, name = model.name.rpartition("/")
        if name != TAG_LIST:
            continue
        if path := find_model_file(model):
            return read_priors(path, rename)
        return Priors(missing=f"The list of tags of {hub} is not on this machine: --tag-counts FILE")
    return Priors(missing="How often other images have these tags is not known: --tag-counts FILE")


def read_priors(path: Path, rename: Callable[[str], str | None]) -> Priors:
    """The shares in a list with the columns name, category and count, as SmilingWolf's WD14 models have it.

    Every post has one rating (category 9), so the ratings' counts add up to all posts. PrepError for another file.
    """
    counts: dict[str, float] = {}
    posts = 0.0
    try:
        with io.StringIO(read_text(path), newline="") as lines:
            reader = csv.DictReader(lines)
            if not {"name", "category", "count"} <= set(reader.fieldnames or ()):
                raise PrepError(f"{path} has no columns name, category and count.", _HINT)
            for row in reader:
                count = float(row["count"])
                if int(float(row["category"])) == 9:
                    posts += count
                elif (tag := rename(row["name"])) is not None:
                    counts[normalize_tag(tag)] = max(count, counts.get(normalize_tag(tag), 0.0))
    except FileNotFoundError:
        raise PrepError(f"There is no list of tags {path}.", "Relative paths start at the workspace.") from None
    except TextFault as fault:
        raise PrepError(f"{path} {fault}.", _HINT) from None
    except (csv.Error, ValueError, TypeError) as error:
        raise PrepError(f"{path} is not a list of tags: {error}.", _HINT) from None
    if posts <= 0:
        raise PrepError(f"{path} counts no ratings, so the number of posts is not known.", _HINT)
    # A share of 0 or 1 would make log odds infinite: the counts are moved by one post.
    shares = {tag: min(max(count, 1.0), posts - 1) / posts for tag, count in counts.items()}
    return Priors(shares, f"{posts:,.0f} posts counted in {path.parent.name}/{path.name}")
