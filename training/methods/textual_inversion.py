"""Textual inversion: new vectors that a subject's token is read as; nothing of the base itself learns."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from pipeline.record import root_of
from pipeline.tag_text import escape_control
from training.data.captions import fixed_prompt
from training.export.artifacts import ArtifactFolder
from training.methods.method import MethodContext, MethodSpec
from training.methods.token_embeddings import (
    PlaceholderTokenizer,
    TokenEmbeddings,
    extend_vocabulary,
    file_tensors,
    fix_eos_id,
    read_embedding,
    vocabulary,
    words_pattern,
)
from training.models.family import TextSettings
from training.optim.lr_by_step import parse_lr_by_step
from training.optim.optimizers import OPTIMIZERS, ParamGroup

if TYPE_CHECKING:
    import torch

    from training.batch import TrainingImage
    from training.models.family import Family, Modules
    from training.options.train_options import TrainOptions

    Tensors = dict[str, torch.Tensor]

log = logging.getLogger(__name__)

_PLACEHOLDER = "<prep>"  # diffusers refuses words that its vocabulary has

# Below how many images of a subject it gets how many vectors: more images hold more to describe.
_VECTORS = (
    *((20, 2), (31, 3), (40, 4), (50, 5), (61, 6), (70, 8), (80, 9), (90, 10), (100, 11), (120, 12), (150, 14)),
    (math.inf, 16),
)
_BANDS = (1, 10, 31, 40, 61, 101)  # numbers of images at which the usual range of vectors changes
USUAL_STEPS = 3000
USUAL_LR = "0.05:10, 0.02:20, 0.01:60, 0.005:200, 0.002:500, 0.001:3000, 0.0005"


def vectors_for(images: float) -> int:
    """The default number of vectors for a subject with so many images."""
    return next((vectors for below, vectors in _VECTORS if images < below), _VECTORS[-1][1])


def usual_vectors(images: int) -> tuple[int, int]:
    """The fewest and the most vectors that are usual for a subject with about so many images."""
    starts = (*_BANDS, math.inf)
    band = max(at for at, start in enumerate(_BANDS) if start <= max(images, 1))
    return vectors_for(starts[band]), vectors_for(starts[band + 1] - 1)


@dataclass(frozen=True, kw_only=True)
class TextualInversionMethod(MethodSpec):
    """New vectors for the tokens of the subjects; the base model's own weights stay as they are."""

    def check_options(self, config: TrainOptions) -> None:
        by_step = parse_lr_by_step(config.textual_inversion.embedding_lr, "embedding_lr")
        optimizer, scheduler = config.optimizer.optimizer, config.optimizer.lr_scheduler
        if OPTIMIZERS[optimizer].lr_free:
            raise PrepError(
                f"train: {optimizer} finds the learning rate by itself; embeddings have their own, embedding_lr.",
                "Use: --optimizer adamw",
            )
        if scheduler != "constant" and not by_step.constant:
            raise PrepError(
                f"train: lr_scheduler {scheduler} has no effect on an embedding_lr that changes at given steps.",
                "Use: --lr-scheduler constant; or give one rate.",
            )

    def learning_rates(self, config: TrainOptions, family: Family) -> dict[str, float]:
        """The first rate, for each of CLIP's text encoders."""
        rate = parse_lr_by_step(config.textual_inversion.embedding_lr, "embedding_lr")(0)
        return {part: rate for part in family.targets if part != family.denoiser}

    def start(self, context: MethodContext) -> TextualInversion:
        return TextualInversion(context)


TEXTUAL_INVERSION = TextualInversionMethod(
    name="textual-inversion",
    options=frozenset(("num_vectors", "init_text", "init_mean", "embedding_lr", "max_embedding_norm", "init_from")),
    options_of_file=frozenset(("num_vectors", "init_text", "init_mean")),
)


class TextualInversion:
    """Vectors for every subject's token in each CLIP text encoder; see TrainingMethod for its members.

    They stand for the token from tokenisation on, so captions stay as they are.
    """

    def __init__(self, materials: MethodContext) -> None:
        self.materials = materials
        self.rows: dict[str, TokenEmbeddings] = {}  # by part
        self.began: dict[str, Tensors] = {}
        self.answers: Tensors = {}  # by token, once they are settled
        self.tokens = _tokens(materials)
        for part, module in materials.modules.items():
            own = vocabulary(module).detach()
            begin = {token: self._begin(part, token).to(own.device) for token in self.tokens}
            for vectors in begin.values():
                vectors.requires_grad_(True)
            bound = materials.config.textual_inversion.max_embedding_norm or math.inf
            self.rows[part] = TokenEmbeddings(len(own), begin, bound * float(own.norm(dim=1).median()))
            self.began[part] = {token: vectors.detach().clone() for token, vectors in self.rows[part].bounded().items()}
            extend_vocabulary(module, self.rows[part])
            materials.tokenizers[part] = PlaceholderTokenizer(materials.tokenizers[part], self.rows[part].places())

    def param_groups(self) -> list[ParamGroup]:
        pace, rates = (
            parse_lr_by_step(self.materials.config.textual_inversion.embedding_lr, "embedding_lr"),
            self.materials.rates,
        )
        return [
            ParamGroup(
                part,
                {f"{part}.{token}": vectors for token, vectors in rows.vectors.items()},
                rates[part],
                None if pace.constant else pace,
            )
            for part, rows in self.rows.items()
        ]

    def files(self, dtype: torch.dtype) -> dict[str, Tensors | ArtifactFolder]:
        """One file; of several subjects a folder, whose files are named after the tokens."""
        bounded = {part: rows.bounded() for part, rows in self.rows.items()}
        saved = {
            token: file_tensors({part: vectors[token].detach().cpu().to(dtype) for part, vectors in bounded.items()})
            for token in self.tokens
        }
        if len(saved) == 1:
            return {".safetensors": next(iter(saved.values()))}
        return {"": ArtifactFolder({file_name(token): partial(saved.__getitem__, token) for token in saved})}

    def finalize(self, dtype: torch.dtype) -> dict[str, Tensors | ArtifactFolder]:
        for part, module in self.materials.modules.items():
            module.to("cpu").float()
            rows = self.rows[part]
            for token, vectors in rows.bounded().items():
                rows.vectors[token].data = vectors.detach().cpu().to(dtype).float()
            self.rows[part] = replace(rows, longest=math.inf)  # what is rounded stays as it is
            extend_vocabulary(module, self.rows[part])
        for token in self.tokens:
            self.answers[token] = self._answer(self.materials.tokenizers, self.materials.modules, token)
        return self.files(dtype)

    def metadata(self) -> dict[str, Any]:
        return {
            "ss_learning_rate": self.materials.config.textual_inversion.embedding_lr,
            "ss_unet_lr": 0.0,
            "modelspec.architecture": self.materials.family.architecture.replace("/lora", "/textual-inversion"),
            "ss_num_vectors_per_token": max(
                len(vectors) for rows in self.rows.values() for vectors in rows.vectors.values()
            ),
        }

    def verify(self, files: dict[str, Path]) -> None:
        """Load the files by diffusers' own reader into fresh text encoders: they must say what the trained ones do."""
        widths = {part: vocabulary(module).shape[1] for part, module in self.materials.modules.items()}
        for token in self.tokens:
            path = files[""] / file_name(token) if "" in files else files[".safetensors"]
            saved = read_embedding(path, widths)
            if all(same(vectors, self.began[part][token]) for part, vectors in saved.items()):
                raise PrepError(
                    f"The embedding of {escape_control(token)} is what it began as.",
                    "Train for more steps, or at a higher rate.",
                )
            trained = self.answers[token] if token in self.answers else self._answer(*self._widened(saved))
            error = float((self._answer(*self._loaded(path)) - trained).abs().max())
            if not error <= 1e-4 * float(trained.abs().max()):
                raise PrepError(
                    f"{path} does not load as it was trained: what it says is off by {error:.3g}.",
                    "Keep the file and report this; the versions of diffusers and transformers are in the manifest.",
                )

    def _begin(self, part: str, token: str) -> torch.Tensor:
        """The vectors of a token before the first step, (n, width) in float32."""
        import torch

        found, config = self.materials, self.materials.config
        images = [sample for sample in found.samples if sample.subject == token and not sample.reg]
        own = vocabulary(found.modules[part]).detach()
        if found.init_from:
            widths = {part: vocabulary(module).shape[1] for part, module in found.modules.items()}
            return read_embedding(found.init_from, widths)[part]
        words = config.textual_inversion.init_text.strip() or images[0].class_name
        ids = found.tokenizers[part](words, add_special_tokens=False, truncation=False).input_ids
        if not ids:
            raise PrepError(
                f"train: there is no word that the embedding of {escape_control(token)} could begin as.",
                "Give one that comes close to it, for example: --init-text man",
            )
        sources = {root_of(sample.id) for sample in images}  # a copy tells nothing new
        count = config.textual_inversion.num_vectors or vectors_for(len(sources))
        chosen = own[torch.tensor([ids[k % len(ids)] for k in range(count)], device=own.device)]
        if config.textual_inversion.init_mean:
            chosen = own[torch.tensor(ids, device=own.device)].mean(dim=0).expand(count, -1)
        return chosen.float().clone()

    def _answer(self, tokenizers: Modules, encoders: Modules, word: str) -> torch.Tensor:
        """What the text encoders say of a prompt with the word, laid out in a row."""
        import torch

        with torch.no_grad():
            said = self.materials.family.encode_text(tokenizers, encoders, [f"a photo of {word}"], TextSettings())
        return torch.cat([value.flatten() for value in said.values()])

    def _widened(self, saved: Tensors) -> tuple[Modules, Modules, str]:
        """Fresh tokenizers and text encoders that read a word as these vectors, the way they do in training."""
        tokenizers, encoders = self.materials.checkpoint.tokenizers(), {}
        for part, vectors in saved.items():
            encoders[part] = self.materials.checkpoint.load(part)
            rows = TokenEmbeddings(len(vocabulary(encoders[part])), {_PLACEHOLDER: vectors}, math.inf)
            extend_vocabulary(encoders[part], rows)
            tokenizers[part] = PlaceholderTokenizer(tokenizers[part], rows.places())
        return tokenizers, encoders, _PLACEHOLDER

    def _loaded(self, path: Path) -> tuple[Modules, Modules, str]:
        """Fresh tokenizers and text encoders into which diffusers loaded a file's vectors, and what calls them up."""
        from diffusers.loaders import TextualInversionLoaderMixin

        reader, prompt = TextualInversionLoaderMixin(), _PLACEHOLDER
        reader.hf_device_map, reader.components = None, {}
        tokenizers, encoders = self.materials.checkpoint.tokenizers(), {}
        widths = {part: vocabulary(module).shape[1] for part, module in self.materials.modules.items()}
        for part, vectors in read_embedding(path, widths).items():
            encoders[part] = self.materials.checkpoint.load(part)
            fix_eos_id(encoders[part])
            given = {"token": _PLACEHOLDER, "tokenizer": tokenizers[part], "text_encoder": encoders[part]}
            reader.load_textual_inversion(str(path) if len(widths) == 1 else {_PLACEHOLDER: vectors}, **given)
            prompt = reader.maybe_convert_prompt(_PLACEHOLDER, tokenizers[part])
        return tokenizers, encoders, prompt


def same(saved: torch.Tensor, began: torch.Tensor) -> bool:
    """Whether vectors of a file are those that training began with, in one of the formats that files have."""
    import torch

    formats = (torch.float32, torch.float16, torch.bfloat16)
    return any(torch.equal(saved, began.cpu().to(dtype).float()) for dtype in formats)


def file_name(token: str) -> str:
    """The file of one of several embeddings; WebUI and ComfyUI call an embedding up by it."""
    return re.sub(r"[^\w. -]", "_", token) + ".safetensors"


def _tokens(materials: MethodContext) -> list[str]:
    """The subjects' tokens; PrepError when there is none, or when no caption holds one of them."""
    config, samples = materials.config, [sample for sample in materials.samples if not sample.reg and sample.repeats]
    tokens = sorted({sample.subject for sample in samples if sample.subject})
    if not tokens:
        raise PrepError(
            "train: inversion needs a token to learn, but no image has a subject.", "Name one in prep.toml."
        )
    if materials.init_from and len(tokens) > 1:
        raise PrepError(
            f"train: init_from is one embedding, but the data set has {len(tokens)} subjects.",
            "Train each subject by itself.",
        )
    for token in tokens:
        _check_captions(token, [sample for sample in samples if sample.subject == token], config)
    return tokens


def _check_captions(token: str, samples: list[TrainingImage], config: TrainOptions) -> None:
    holds = words_pattern([token]).search
    without = [sample.id for sample in samples if not holds(fixed_prompt(sample, config.captions))]
    if len(without) == len(samples):
        raise PrepError(
            f"train: no caption of {escape_control(token)} holds that token, so there is nothing its embedding could learn.",
            "Put it into the captions: prep merge --trigger",
        )
    if without:
        log.warning(
            "%d of %d captions of %s do not hold the token; their images teach its embedding nothing.",
            *(len(without), len(samples), escape_control(token)),
        )
