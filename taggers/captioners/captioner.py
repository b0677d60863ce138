"""The base of all captioners: their options, and from captions to annotations."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.history import Model
from pipeline.models.file_hashes import model_hashes
from pipeline.record import Annotation
from pipeline.stage import option
from pipeline.workspace import Workspace
from taggers.captioners.model_folder import find_model_folder, model_files
from taggers.tagger import ModelTagger

log = logging.getLogger("prep")


@dataclass(frozen=True, slots=True)
class PredictedCaption:
    """What a model wrote about one image."""

    text: str
    score: float | None  # 0 to 1
    truncated: bool  # it reached the most tokens


@dataclass(frozen=True, kw_only=True)
class Captioner(ModelTagger):
    """A tagger that writes one caption about each image with a model of transformers."""

    inference_batch_size: ClassVar[int] = 16
    image_preparation: ClassVar[str] = "preprocessor_config.json, resized by Pillow"  # for the manifest
    libraries: ClassVar[tuple[str, ...]] = ("pillow", "torch", "transformers")

    max_tokens: int = option(
        120, "Most tokens of a caption; a token is about three quarters of a word. Most captions are shorter.", low=1
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "Precision (dtype) of the model; auto: what its authors use on a GPU, float32 on a CPU."
    )

    def models(self, workspace: Workspace) -> tuple[Model, ...]:
        found = find_model_folder(self.model, workspace)
        return (*model_hashes(found, model_files(found)), self.preparation(self.image_preparation))

    def caption_annotations(self, captions: list[PredictedCaption]) -> list[list[Annotation]]:
        """One list per image, empty where the model wrote nothing; warns of truncated captions."""
        if truncated := sum(caption.truncated for caption in captions):
            log.warning(
                "%s: %d of %d captions were cut at %d tokens; --max-tokens allows more.",
                *(self.signature, truncated, len(captions), self.max_tokens),
            )
        return [
            [Annotation(caption.text, "caption", "", caption.score, self.signature)] if caption.text else []
            for caption in captions
        ]


@dataclass(frozen=True, kw_only=True)
class BeamCaptioner(Captioner):
    """A captioner with beam search."""

    num_beams: int = option(
        1, "Beams of the beam search for the most probable caption, usually 1 (greedy, fastest) to 5.", low=1
    )
