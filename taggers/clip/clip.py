"""CLIP: zero-shot tags from a label file, with a model of open_clip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pipeline.adaptive_batches import AdaptiveBatcher
from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.models.file_hashes import known_sha256
from pipeline.record import Annotation
from pipeline.stage import option
from pipeline.vectors import PROVENANCE, VectorStore
from pipeline.workspace import Workspace
from taggers.clip.clip_model import GET, ClipModel, embed_images, embed_texts, find_clip, load_clip
from taggers.clip.embeddings import embed_cached
from taggers.clip.labels import BUILT_IN_LABELS, LABEL_FORMAT, Label, fill_templates, parse_labels, read_labels
from taggers.tagger import PredictFn, ScoringTagger

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class LabelEmbeddings:
    """Labels as vectors; row i of both arrays belongs to label i."""

    labels: tuple[Label, ...]
    positive: np.ndarray  # labels x size, float32 unit rows
    opposite: np.ndarray  # the same for the opposites; unused where a label has a group


@dataclass(frozen=True, kw_only=True)
class Clip(ScoringTagger):
    """Tags from your own list of labels, scored by a CLIP model of open_clip, without training.

    Labels of one [group] exclude each other: their scores are a softmax over the group. Any other label is
    scored against its opposite, in a softmax of two. Embeddings of images are kept in cache/embeddings: other
    labels or another --min-score take no new inference, and prep check uses them to find outliers.
    """

    name: ClassVar[str] = "clip"
    records_per_batch: ClassVar[int] = 64
    libraries: ClassVar[tuple[str, ...]] = ("open-clip-torch", "torch", "pillow")

    model: str = option(
        "",
        "Model: a folder or hub id of an open_clip model, or, with --pretrained, the name of its architecture. "
        "OpenAI's weights need one that ends in -quickgelu.",
        cache_key=False,
        metavar="MODEL",
    )
    pretrained: str = option(
        "", "Weights of that architecture: a safetensors or PyTorch file.", cache_key=False, metavar="FILE"
    )
    labels: str = option(
        "",
        f"Text file of labels; none: prep's short list for portraits. Relative paths start at the workspace. "
        f"{LABEL_FORMAT}",
        cache_key=False,
        metavar="FILE",
    )
    template: tuple[str, ...] = option(
        ["a photo of {}"],
        "Prompt around a label, at {}. Repeat it for more: the mean of their embeddings is used.",
        metavar="TEXT",
    )
    negative_template: tuple[str, ...] = option(
        ["a photo without {}"], "Prompt that labels without a group or an opposite are scored against.", metavar="TEXT"
    )

    def check(self) -> None:
        for name, templates in (("template", self.template), ("negative-template", self.negative_template)):
            if invalid := [text for text in templates if "{}" not in text] or ([] if templates else [""]):
                raise PrepError(
                    f"clip: {name} is {invalid[0]!r}.", f"It must have {{}} for the label: --{name} 'a photo of {{}}'"
                )

    def models(self, workspace: Workspace) -> tuple[Model, ...]:
        labels = (Model("labels", known_sha256(_label_file(self, workspace))),) if self.labels else ()
        files = find_clip(self.model, self.pretrained, workspace)
        vectors = Model(PROVENANCE, files.key)  # where prep check finds the embeddings
        return (*files.models, *labels, vectors, self.preparation("open_clip's own, as the model was trained"))

    def load(self, workspace: Workspace) -> PredictFn:
        if self.labels:
            labels = read_labels(_label_file(self, workspace))
        else:
            labels = parse_labels(BUILT_IN_LABELS, "prep's own list")
        files = find_clip(self.model, self.pretrained, workspace)
        clip = load_clip(files, self.device)
        return LabelPredictor(
            self,
            clip,
            embed_labels(clip, labels, self),
            VectorStore.of(workspace, files.key),
            AdaptiveBatcher(self.inference_batch_size, self.signature),
        )


@dataclass(frozen=True, slots=True)
class LabelPredictor:
    """Scores images with a loaded model and its embedded labels."""

    options: Clip
    clip: ClipModel
    labels: LabelEmbeddings
    store: VectorStore
    batcher: AdaptiveBatcher

    def __call__(self, images: list[np.ndarray]) -> list[list[Annotation]]:
        """The labels from min_score up of each image, in the order of the label file."""
        import numpy as np

        rows = embed_cached(self.store, self._embed, images)
        _check_finite(rows, self.options)
        scores = np.round(label_scores(self.labels, rows, self.clip.scale), 4)
        return [
            [
                Annotation(label.tag, "tag", label.group or "general", score, self.options.signature)
                for label, score in zip(self.labels.labels, row, strict=True)
                if score >= self.options.min_score
            ]
            for row in scores.tolist()
        ]

    def _embed(self, images: list[np.ndarray]) -> np.ndarray:
        import numpy as np

        return np.stack(self.batcher.run(lambda part: list(embed_images(self.clip, list(part))), images))


def embed_labels(clip: ClipModel, labels: tuple[Label, ...], options: Clip) -> LabelEmbeddings:
    """The labels' embeddings, each distinct prompt embedded once; several templates are averaged on the sphere."""
    import numpy as np

    prompts = [(_positive(label, options), _negative(label, options)) for label in labels]
    texts = list(dict.fromkeys(text for pair in prompts for side in pair for text in side))
    row_of = {text: row for row, text in enumerate(texts)}
    rows = embed_texts(clip, texts)
    _check_finite(rows, options)

    def mean(side: tuple[str, ...]) -> np.ndarray:
        # A label of a group has no opposite: zeros, which are not used.
        vector = rows[[row_of[text] for text in side]].mean(axis=0) if side else np.zeros(rows.shape[1], np.float32)
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12))

    positive, opposite = ([mean(pair[side]) for pair in prompts] for side in (0, 1))
    return LabelEmbeddings(labels, np.stack(positive), np.stack(opposite))


def label_scores(labels: LabelEmbeddings, rows: np.ndarray, scale: float) -> np.ndarray:
    """Scores of unit embeddings, n x labels, 0 to 1: softmax of `scale` x cosine over the group or the pair.

    Zero-shot classification of Radford et al., 2021 (arXiv:2103.00020), section 3.1.2.
    """
    import numpy as np

    embeddings = rows.astype(np.float64)
    positive = scale * (embeddings @ labels.positive.T.astype(np.float64))
    opposite = scale * (embeddings @ labels.opposite.T.astype(np.float64))
    scores = 1 / (1 + np.exp(np.clip(opposite - positive, -700, 700)))
    groups: dict[str, list[int]] = {}
    for column, label in enumerate(labels.labels):
        groups.setdefault(label.group, []).append(column)
    for name, columns in groups.items():
        if name:
            powers = np.exp(positive[:, columns] - positive[:, columns].max(axis=1, keepdims=True))
            scores[:, columns] = powers / powers.sum(axis=1, keepdims=True)
    return np.asarray(scores)


def _check_finite(rows: np.ndarray, options: Clip) -> None:
    import numpy as np

    if not np.isfinite(rows).all():
        raise PrepError(
            f"{options.signature} gives embeddings that are not numbers (nan): its weights are damaged.", GET
        )


def _positive(label: Label, options: Clip) -> tuple[str, ...]:
    return (label.prompt,) if label.prompt else fill_templates(label.tag, options.template)


def _negative(label: Label, options: Clip) -> tuple[str, ...]:
    """The prompts of a label's opposite: its own, else those of the negative template."""
    if label.group:
        return ()
    if not label.opposite:
        return fill_templates(label.tag, options.negative_template)
    return (label.opposite,) if label.prompt else fill_templates(label.opposite, options.template)


def _label_file(clip: Clip, workspace: Workspace) -> Path:
    path = workspace.source(str(Path(clip.labels).expanduser()))
    if not path.is_file():
        raise PrepError(f"The label file {path} does not exist.", LABEL_FORMAT)
    return path
