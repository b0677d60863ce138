"""Embeddings that prompts name: which files there are, and their vectors in the text encoders' input."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.methods.token_embeddings import read_embedding
from training.sampling.network_files import list_networks, read_header
from training.sampling.prompt.chunks import EmbeddingMatch, PlacedEmbedding

if TYPE_CHECKING:
    import torch

    Vectors = dict[str, torch.Tensor]  # by text encoder: (n, width), float32

log = logging.getLogger(__name__)

_MOST_TENSORS = 2  # of an embedding: one per text encoder


def list_embeddings(folders: Sequence[Path]) -> dict[str, Path]:
    """The embedding files of folders and their subfolders by name, which is that of the file; the first of a name.

    Adapters in the same folders, as in those of runs, are left out.
    """
    return {name: path for name, path in list_networks(folders).items() if _may_be_embedding(path)}


def _may_be_embedding(path: Path) -> bool:
    tensors = read_header(path).keys() - {"__metadata__"}
    return path.suffix.lower() != ".safetensors" or 1 <= len(tensors) <= _MOST_TENSORS


@dataclass
class EmbeddingLibrary:
    """The embeddings that prompts may name; a file is read when its name first occurs in a text.

    A name is found wherever its tokens are, so in any case and inside other text; of several names that begin at a
    token the longest is taken. A file for another base model is not used, and that is told once.
    """

    files: dict[str, Path]
    widths: dict[str, int]  # of the base model's text encoders, by part
    read: dict[str, Vectors | None] = field(default_factory=dict)  # None: not for this base model
    names: dict[int, list[tuple[list[int], str]]] = field(default_factory=dict)  # by first token, the longest first

    @classmethod
    def open(cls, files: dict[str, Path], widths: dict[str, int], tokenizer: Any) -> EmbeddingLibrary:
        """The library of these files by name; `tokenizer` splits the names as it does prompts."""
        names: dict[int, list[tuple[list[int], str]]] = {}
        for name in sorted(files):
            tokens = tokenizer(name, add_special_tokens=False).input_ids
            if tokens:
                names.setdefault(tokens[0], []).append((tokens, name))
        ordered = {first: sorted(found, key=lambda one: -len(one[0])) for first, found in names.items()}
        return cls(files, widths, names=ordered)

    def find(self, tokens: Sequence[int], at: int) -> EmbeddingMatch | None:
        """The embedding that is named at a position of a tokenized text; see FindEmbedding."""
        for name_tokens, name in self.names.get(tokens[at], ()):
            if list(tokens[at : at + len(name_tokens)]) == name_tokens and (vectors := self.vectors(name)):
                return EmbeddingMatch(name, len(name_tokens), len(next(iter(vectors.values()))))
        return None

    def vectors(self, name: str) -> Vectors | None:
        """The vectors of an embedding; None if it is for another base model."""
        if name not in self.read:
            try:
                self.read[name] = read_embedding(self.files[name], self.widths)
            except PrepError as error:
                log.warning("%s Its name in a prompt is an ordinary word.", error.wrong)
                self.read[name] = None
        return self.read[name]

    @property
    def used(self) -> list[Path]:
        """The files whose vectors were used so far."""
        return [self.files[name] for name, vectors in sorted(self.read.items()) if vectors]


@contextmanager
def placed_vectors(
    encoder: Any, part: str, placed: Sequence[PlacedEmbedding], library: EmbeddingLibrary
) -> Iterator[None]:
    """While it lasts, the encoder reads these vectors in the place of the tokens of its one text, (1, 77)."""

    def put(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        for one in placed:
            vectors = library.vectors(one.name)
            assert vectors
            begin = one.at + 1  # after the start token
            changed[:, begin : begin + one.vectors] = vectors[part].to(changed)
        return changed

    hook = encoder.get_input_embeddings().register_forward_hook(put)
    try:
        yield
    finally:
        hook.remove()
