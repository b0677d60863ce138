"""Textual inversion: new embedding vectors for a subject's token; the base model itself is not trained."""

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
from training.methods.method import MethodContext, MethodSpec, TrainedFile
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

_PLACEHOLDER = "<prep>"  # diffusers refuses words of the vocabulary

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

    def usage(self, file: TrainedFile) -> dict[str, str]:
        """Both programs know an embedding by its file name, whatever word it was trained with."""
        by_name, by_file = (file.prompt.replace(file.token, word) for word in (file.name, f"embedding:{file.name}"))
        return {
            "WebUI": f"copy it to embeddings; prompt: {by_name}",
            "ComfyUI": f"copy it to models/embeddings; prompt: {by_file}",
        }

    def file_name(self, config: TrainOptions, samples: list[TrainingImage]) -> str:
        """The subject's token: the programs that read an embedding call it by its file name."""
        tokens = {sample.subject for sample in samples if sample.subject and not sample.reg}
        return file_stem(tokens.pop()) if len(tokens) == 1 else config.saving.output

    def start(self, context: MethodContext) -> TextualInversion:
        return TextualInversion(context)


TEXTUAL_INVERSION = TextualInversionMethod(
    name="textual-inversion",
    options=frozenset(("num_vectors", "init_text", "init_mean", "embedding_lr", "max_embedding_norm", "init_from")),
    options_of_file=frozenset(("num_vectors", "init_text", "init_mean")),
)


class TextualInversion:
    """Vectors for every subject's token in each CLIP text encoder; see TrainingMethod for its members.

    They replace the token when a prompt is tokenized, so captions do not change.
    """

    def __init__(self, context: MethodContext) -> None:
        self.context = context
        self.embeddings: dict[str, TokenEmbeddings] = {}  # by part
        self.initial: dict[str, Tensors] = {}
        self.reference_outputs: Tensors = {}  # by token, once finalized
        self.tokens = _tokens(context)
        for part, module in context.modules.items():
            own = vocabulary(module).detach()
            initial = {token: self._initial_vectors(part, token).to(own.device) for token in self.tokens}
            for vectors in initial.values():
                vectors.requires_grad_(True)
            bound = context.config.textual_inversion.max_embedding_norm or math.inf
            self.embeddings[part] = TokenEmbeddings(len(own), initial, bound * float(own.norm(dim=1).median()))
            self.initial[part] = {
                token: vectors.detach().clone() for token, vectors in self.embeddings[part].limited().items()
            }
            extend_vocabulary(module, self.embeddings[part])
            context.tokenizers[part] = PlaceholderTokenizer(context.tokenizers[part], self.embeddings[part].token_ids())

    def param_groups(self) -> list[ParamGroup]:
        by_step = parse_lr_by_step(self.context.config.textual_inversion.embedding_lr, "embedding_lr")
        return [
            ParamGroup(
                part,
                {f"{part}.{token}": vectors for token, vectors in embeddings.vectors.items()},
                self.context.rates[part],
                None if by_step.constant else by_step,
            )
            for part, embeddings in self.embeddings.items()
        ]

    def files(self, dtype: torch.dtype) -> dict[str, Tensors | ArtifactFolder]:
        """One file; for several subjects a folder of files named after the tokens."""
        vectors_of = {part: embeddings.limited() for part, embeddings in self.embeddings.items()}
        saved = {
            token: file_tensors({part: vectors[token].detach().cpu().to(dtype) for part, vectors in vectors_of.items()})
            for token in self.tokens
        }
        if len(saved) == 1:
            return {".safetensors": next(iter(saved.values()))}
        return {
            "": ArtifactFolder(
                {f"{file_stem(token)}.safetensors": partial(saved.__getitem__, token) for token in saved}
            )
        }

    def finalize(self, dtype: torch.dtype) -> dict[str, Tensors | ArtifactFolder]:
        for part, module in self.context.modules.items():
            module.to("cpu").float()
            embeddings = self.embeddings[part]
            for token, vectors in embeddings.limited().items():
                embeddings.vectors[token].data = vectors.detach().cpu().to(dtype).float()
            self.embeddings[part] = replace(embeddings, max_norm=math.inf)  # rounded vectors are not scaled again
            extend_vocabulary(module, self.embeddings[part])
        for token in self.tokens:
            self.reference_outputs[token] = self._encode(self.context.tokenizers, self.context.modules, token)
        return self.files(dtype)

    def metadata(self) -> dict[str, Any]:
        return {
            "ss_learning_rate": self.context.config.textual_inversion.embedding_lr,
            "ss_unet_lr": 0.0,
            "modelspec.architecture": self.context.family.architecture.replace("/lora", "/textual-inversion"),
            "ss_num_vectors_per_token": max(
                len(vectors) for embeddings in self.embeddings.values() for vectors in embeddings.vectors.values()
            ),
        }

    def verify(self, files: dict[str, Path]) -> None:
        """Load the files with diffusers into fresh text encoders, whose outputs must be those of the trained ones."""
        widths = {part: vocabulary(module).shape[1] for part, module in self.context.modules.items()}
        for token in self.tokens:
            path = files[""] / f"{file_stem(token)}.safetensors" if "" in files else files[".safetensors"]
            saved = read_embedding(path, widths)
            if all(same(vectors, self.initial[part][token]) for part, vectors in saved.items()):
                raise PrepError(
                    f"Training did not change the embedding of {escape_control(token)}.",
                    "Train for more steps, or at a higher --embedding-lr.",
                )
            trained = (
                self.reference_outputs[token]
                if token in self.reference_outputs
                else self._encode(*self._load_by_prep(saved))
            )
            error = float((self._encode(*self._load_by_diffusers(path)) - trained).abs().max())
            if not error <= 1e-4 * float(trained.abs().max()):
                raise PrepError(
                    f"{path} does not reproduce the trained embedding: output off by {error:.3g}.",
                    "Keep the file and report this as a bug; the manifest has the libraries' versions.",
                )

    def _initial_vectors(self, part: str, token: str) -> torch.Tensor:
        """The vectors of a token before training, (n, width) in float32."""
        import torch

        found, config = self.context, self.context.config
        images = [sample for sample in found.samples if sample.subject == token and not sample.reg]
        own = vocabulary(found.modules[part]).detach()
        if found.init_from:
            widths = {part: vocabulary(module).shape[1] for part, module in found.modules.items()}
            return read_embedding(found.init_from, widths)[part]
        words = config.textual_inversion.init_text.strip() or images[0].class_name
        ids = found.tokenizers[part](words, add_special_tokens=False, truncation=False).input_ids
        if not ids:
            raise PrepError(
                f"train: there is no text to initialize the embedding of {escape_control(token)} with.",
                "Give one with a similar meaning, for example: --init-text man",
            )
        sources = {root_of(sample.id) for sample in images}  # augmented copies do not count
        count = config.textual_inversion.num_vectors or vectors_for(len(sources))
        chosen = own[torch.tensor([ids[k % len(ids)] for k in range(count)], device=own.device)]
        if config.textual_inversion.init_mean:
            chosen = own[torch.tensor(ids, device=own.device)].mean(dim=0).expand(count, -1)
        return chosen.float().clone()

    def _encode(self, tokenizers: Modules, encoders: Modules, word: str) -> torch.Tensor:
        """The text encoders' outputs for a prompt with the word, as one vector."""
        import torch

        with torch.no_grad():
            outputs = self.context.family.encode_text(tokenizers, encoders, [f"a photo of {word}"], TextSettings())
        return torch.cat([value.flatten() for value in outputs.values()])

    def _load_by_prep(self, saved: Tensors) -> tuple[Modules, Modules, str]:
        """Fresh tokenizers and text encoders with these vectors for a word, as in training; and the word."""
        tokenizers, encoders = self.context.checkpoint.tokenizers(), {}
        for part, vectors in saved.items():
            encoders[part] = self.context.checkpoint.load(part)
            embeddings = TokenEmbeddings(len(vocabulary(encoders[part])), {_PLACEHOLDER: vectors}, math.inf)
            extend_vocabulary(encoders[part], embeddings)
            tokenizers[part] = PlaceholderTokenizer(tokenizers[part], embeddings.token_ids())
        return tokenizers, encoders, _PLACEHOLDER

    def _load_by_diffusers(self, path: Path) -> tuple[Modules, Modules, str]:
        """Fresh tokenizers and text encoders into which diffusers loaded a file, and the prompt for its vectors."""
        from diffusers.loaders import TextualInversionLoaderMixin

        reader, prompt = TextualInversionLoaderMixin(), _PLACEHOLDER
        reader.hf_device_map, reader.components = None, {}
        tokenizers, encoders = self.context.checkpoint.tokenizers(), {}
        widths = {part: vocabulary(module).shape[1] for part, module in self.context.modules.items()}
        for part, vectors in read_embedding(path, widths).items():
            encoders[part] = self.context.checkpoint.load(part)
            fix_eos_id(encoders[part])
            given = {"token": _PLACEHOLDER, "tokenizer": tokenizers[part], "text_encoder": encoders[part]}
            reader.load_textual_inversion(str(path) if len(widths) == 1 else {_PLACEHOLDER: vectors}, **given)
            prompt = reader.maybe_convert_prompt(_PLACEHOLDER, tokenizers[part])
        return tokenizers, encoders, prompt


def same(saved: torch.Tensor, initial: torch.Tensor) -> bool:
    """Whether a file's vectors are the initial ones, rounded to one of the dtypes that files have."""
    import torch

    dtypes = (torch.float32, torch.float16, torch.bfloat16)
    return any(torch.equal(saved, initial.cpu().to(dtype).float()) for dtype in dtypes)


def file_stem(token: str) -> str:
    """The file name of an embedding without its suffix; WebUI and ComfyUI prompts use an embedding by its file name."""
    return re.sub(r"[^\w. -]", "_", token)


def _tokens(context: MethodContext) -> list[str]:
    """The subjects' tokens; PrepError when there is none, or when no caption contains one of them."""
    config, samples = context.config, [sample for sample in context.samples if not sample.reg and sample.repeats]
    tokens = sorted({sample.subject for sample in samples if sample.subject})
    if not tokens:
        raise PrepError(
            "train: textual-inversion needs a token to train, but no image has a subject.",
            "Add a [[subject]] with its token to prep.toml.",
        )
    if context.init_from and len(tokens) > 1:
        raise PrepError(
            f"train: init_from is one embedding, but the dataset has {len(tokens)} subjects.",
            "Train each subject in its own run.",
        )
    for token in tokens:
        _check_captions(token, [sample for sample in samples if sample.subject == token], config)
    return tokens


def _check_captions(token: str, samples: list[TrainingImage], config: TrainOptions) -> None:
    contains = words_pattern([token]).search
    without = [sample.id for sample in samples if not contains(fixed_prompt(sample, config.captions))]
    if len(without) == len(samples):
        raise PrepError(
            f"train: no caption of {escape_control(token)} contains that token, so its embedding would not be trained.",
            "Put it into the captions: prep merge --trigger",
        )
    if without:
        log.warning(
            "%d of %d captions of %s do not contain the token; its embedding learns nothing from these images.",
            *(len(without), len(samples), escape_control(token)),
        )
