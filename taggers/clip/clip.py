"""CLIP: zero-shot tags from a label file of the user's, with an open_clip model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
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
from taggers.clip.clip_model import ClipModel, embed_images, embed_texts, find_clip, load_clip
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
    """Tags from a list of your own, judged by a CLIP model of open_clip, without any training.

    Labels of one [group] exclude each other: their scores are a softmax over the group. Any other
    label is weighed against its opposite, a softmax of two. Embeddings of images are kept in
    cache/embeddings, so another label file or floor infers nothing again, and prep check finds with them what looks
    alike or unlike the rest.
    """

    name: ClassVar[str] = "clip"
    records_per_batch: ClassVar[int] = 64
    libraries: ClassVar[tuple[str, ...]] = ("open-clip-torch", "torch", "pillow")

    model: str = option(
        "",
        "Folder or hub id of an open_clip model, or with --pretrained the name of its architecture; "
        "OpenAI's own weights need one that ends in -quickgelu.",
        cache_key=False,
        metavar="MODEL",
    )
    pretrained: str = option(
        "", "Weights of that architecture, a local safetensors or PyTorch file.", cache_key=False, metavar="FILE"
    )
    labels: str = option(
        "",
        f"Text file with the labels, from the workspace; none: a short list of prep's. {LABEL_FORMAT}",
        cache_key=False,
        metavar="FILE",
    )
    template: tuple[str, ...] = option(
        ["a photo of {}"], "Sentence around a label; of several, the mean of their embeddings is taken.", metavar="TEXT"
    )
    negative_template: tuple[str, ...] = option(
        ["a photo without {}"], "What a label without group and opposite is weighed against.", metavar="TEXT"
    )

    def check(self) -> None:
        for name, templates in (("template", self.template), ("against", self.negative_template)):
            if bad := [text for text in templates if "{}" not in text] or ([] if templates else [""]):
                raise PrepError(f"clip: {name} is {bad[0]!r}.", "It must hold {} where the label goes.")

    def models(self, workspace: Workspace) -> tuple[Model, ...]:
        own = (Model("labels", known_sha256(_label_file(self, workspace))),) if self.labels else ()
        source = find_clip(self.model, self.pretrained, workspace)
        vectors = Model(PROVENANCE, source.key)  # says where prep check finds them
        return (*source.models, *own, vectors, self.preparation("open_clip's own, as the model was trained"))

    def load(self, workspace: Workspace) -> PredictFn:
        labels = (
            read_labels(_label_file(self, workspace))
            if self.labels
            else parse_labels(BUILT_IN_LABELS, "prep's own list")
        )
        source = find_clip(self.model, self.pretrained, workspace)
        net = load_clip(source, self.device)
        store = VectorStore.of(workspace, source.key)
        pieces = AdaptiveBatcher(self.inference_batch_size, self.signature)
        return partial(predict, self, (net, embed_labels(net, labels, self), store, pieces))


def embed_labels(net: ClipModel, labels: tuple[Label, ...], clip: Clip) -> LabelEmbeddings:
    """The labels' embeddings, each distinct prompt embedded once; several templates are averaged on the sphere."""
    import numpy as np

    sides = [(_positive(label, clip), _negative(label, clip)) for label in labels]
    texts = list(dict.fromkeys(text for pair in sides for side in pair for text in side))
    places = {text: place for place, text in enumerate(texts)}
    rows = embed_texts(net, texts)
    if not np.isfinite(rows).all():
        raise PrepError(f"{clip.signature} gives embeddings that are not numbers (nan).", "Its weights are damaged.")

    def mean(side: tuple[str, ...]) -> np.ndarray:
        # A grouped label has no opposite: zeros, never read.
        vector = rows[[places[text] for text in side]].mean(axis=0) if side else np.zeros(rows.shape[1], np.float32)
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12))

    return LabelEmbeddings(
        labels, np.stack([mean(side) for side, _ in sides]), np.stack([mean(side) for _, side in sides])
    )


def predict(
    clip: Clip, tools: tuple[ClipModel, LabelEmbeddings, VectorStore, AdaptiveBatcher], images: list[np.ndarray]
) -> list[list[Annotation]]:
    """What the labels say about each image, in the order of the label file."""
    import numpy as np

    net, bank, store, pieces = tools

    def infer(unknown: list[np.ndarray]) -> np.ndarray:
        return np.stack(pieces.run(lambda piece: list(embed_images(net, list(piece))), unknown))

    rows = embed_cached(store, infer, images)
    if not np.isfinite(rows).all():
        raise PrepError(f"{clip.signature} gives embeddings that are not numbers (nan).", "Its weights are damaged.")
    table = np.round(label_scores(bank, rows, net.scale), 4)
    return [
        [
            Annotation(label.tag, "tag", label.group or "general", score, clip.signature)
            for label, score in zip(bank.labels, line, strict=True)
            if score >= clip.min_score
        ]
        for line in table.tolist()
    ]


def label_scores(bank: LabelEmbeddings, rows: np.ndarray, scale: float) -> np.ndarray:
    """Scores of unit embeddings, n x labels, 0 to 1: softmax of `scale` x cosine over the group or the pair.

    Zero-shot classification of Radford et al., 2021 (arXiv:2103.00020), section 3.1.2.
    """
    import numpy as np

    wide = rows.astype(np.float64)
    yes = scale * (wide @ bank.positive.T.astype(np.float64))
    no = scale * (wide @ bank.opposite.T.astype(np.float64))
    result = 1 / (1 + np.exp(np.clip(no - yes, -700, 700)))
    groups: dict[str, list[int]] = {}
    for place, label in enumerate(bank.labels):
        groups.setdefault(label.group, []).append(place)
    for name, places in groups.items():
        if name:
            powers = np.exp(yes[:, places] - yes[:, places].max(axis=1, keepdims=True))
            result[:, places] = powers / powers.sum(axis=1, keepdims=True)
    return np.asarray(result)


def _positive(label: Label, clip: Clip) -> tuple[str, ...]:
    return (label.prompt,) if label.prompt else fill_templates(label.tag, clip.template)


def _negative(label: Label, clip: Clip) -> tuple[str, ...]:
    """The prompts for what a label is not: its own opposite, else the general sentence against it."""
    if label.group:
        return ()
    if not label.opposite:
        return fill_templates(label.tag, clip.negative_template)
    return (label.opposite,) if label.prompt else fill_templates(label.opposite, clip.template)


def _label_file(clip: Clip, workspace: Workspace) -> Path:
    path = workspace.source(str(Path(clip.labels).expanduser()))
    if not path.is_file():
        raise PrepError(f"The label file {path} does not exist.", LABEL_FORMAT)
    return path
