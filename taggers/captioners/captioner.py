"""What captioning models share: finding one, loading it safely, and writing with it in batches that fit."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.models.file_hashes import model_hashes
from pipeline.models.store import LocalModel, find_model, install_hint, require_files
from pipeline.record import Annotation
from pipeline.stage import option
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from taggers.device import torch_device
from taggers.tagger import ModelTagger

if TYPE_CHECKING:
    import numpy as np
    import torch

T = TypeVar("T")
log = logging.getLogger("prep")

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
# All that decides what a model says, of which any one folder holds some.
FILES = (
    CONFIG,
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
)
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt", "vocab.json")


@dataclass(frozen=True, slots=True)
class PredictedCaption:
    """What a model wrote about one image."""

    text: str
    score: float | None  # 0 to 1
    truncated: bool  # the limit of tokens ended it


@dataclass(frozen=True, kw_only=True)
class Captioner(ModelTagger):
    """A tagger that writes one sentence about each image with a transformers model."""

    inference_batch_size: ClassVar[int] = 16
    image_preparation: ClassVar[str] = (
        "preprocessor_config.json, resized by Pillow"  # how images are prepared, for the manifest
    )
    libraries: ClassVar[tuple[str, ...]] = ("pillow", "torch", "transformers")

    max_tokens: int = option(
        120, "Most tokens (about three quarters of a word each) in a caption; few models write so many.", low=1
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "Numbers that the model calculates with; auto is what its authors use."
    )

    def models(self, workspace: Workspace) -> tuple[Model, ...]:
        found = find_model_folder(self.model, workspace)
        return (*model_hashes(found, model_files(found)), self.preparation(self.image_preparation))

    def caption_annotations(self, said: list[PredictedCaption]) -> list[list[Annotation]]:
        """The captions, signed; none for an image about which the model said nothing."""
        if cut := sum(one.truncated for one in said):
            log.warning("%s: %d of %d captions were cut at %d tokens.", self.signature, cut, len(said), self.max_tokens)
        return [[Annotation(one.text, "caption", "", one.score, self.signature)] if one.text else [] for one in said]


@dataclass(frozen=True, kw_only=True)
class BeamCaptioner(Captioner):
    """One that may follow several sentences before it settles for one."""

    num_beams: int = option(
        1, "Sentences followed at once by the search for the likeliest one; 1 is the fastest.", low=1
    )


@dataclass(frozen=True, slots=True)
class ModelParts:
    """What a folder of BLIP or GIT holds, loaded."""

    model: Any
    image_processor: Callable[[list[np.ndarray]], Any]
    tokenizer: Any


def find_model_folder(model: str, workspace: Workspace) -> LocalModel:
    """The model's folder; PrepError unless its configuration and all weights, as safetensors, are there."""
    found = find_model(model, workspace, (CONFIG,))
    return require_files(found.folder, model_files(found))


def model_files(found: LocalModel) -> tuple[str, ...]:
    """Names of the files that decide what the model says, weights last."""
    return (*(name for name in FILES if (found.folder / name).is_file()), *_weights(found))


def _weights(found: LocalModel) -> tuple[str, ...]:
    if (found.folder / WEIGHTS).is_file():
        return (WEIGHTS,)
    if (found.folder / INDEX).is_file():
        shards = read_json(found, INDEX).get("weight_map")
        if isinstance(shards, dict) and shards and all(Path(str(name)).name == name for name in shards.values()):
            return (INDEX, *sorted(set(shards.values())))
        raise PrepError(f"{found.folder / INDEX} does not list the files of the model.", repair_hint(found))
    if pickles := sorted(
        path.name for ending in ("bin", "pt", "pth", "ckpt") for path in found.folder.glob(f"*.{ending}")
    ):
        raise PrepError(
            f"{found.folder} has its weights only as {pickles[0]}, a pickle, which could run any program.",
            f"prep reads safetensors: get a copy, or a revision of the model, that has {WEIGHTS}.",
        )
    raise PrepError(f"The model folder {found.folder} lacks {WEIGHTS}.", repair_hint(found))


def repair_hint(found: LocalModel) -> str:
    """What to do about a folder with something wrong in it."""
    return install_hint(found.name) if "/" in found.name else f"Copy the model's files into {found.folder} again."


def read_json(found: LocalModel, name: str) -> dict[str, Any]:
    """A JSON object from the model's folder; PrepError when it is none."""
    try:
        content = json.loads((found.folder / name).read_text(encoding="utf-8"))
    except (ValueError, OSError):
        content = None
    if not isinstance(content, dict):
        raise PrepError(f"{found.folder / name} is damaged: it is no JSON object.", repair_hint(found))
    return content


def check_model_class(found: LocalModel, wanted: tuple[str, ...], kind: str) -> str:
    """The model's class, as its configuration names it; PrepError when it is none of `wanted`."""
    config = read_json(found, CONFIG)
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else "no class"
    if name not in wanted:
        raise PrepError(
            f"{found.folder} holds a model of another kind ({escape_control(name)}, type {_type(config)}).",
            f"{kind} takes {' or '.join(wanted)}.",
        )
    return name


def _type(config: dict[str, Any]) -> str:
    return escape_control(str(config.get("model_type", "unknown")))


def load_parts(found: LocalModel, name: str, captioner: Captioner, halves: dict[str, str]) -> ModelParts:
    """The model of the class `name` on its device, and what goes with it.

    `halves`: by the kind of its language part, what it calculates with on a GPU; float32 otherwise.
    """
    import transformers

    cls = getattr(transformers, name)
    config = load_from_folder(found, lambda: cls.config_class.from_pretrained(found.folder, local_files_only=True))
    device = torch_device(captioner.device)
    eye, tokenizer = load_image_processor(found, config.vision_config.image_size), load_tokenizer(found)
    on_gpu = halves.get(config.get_text_config().model_type, "float32")
    return ModelParts(load_model(found, cls, device, pick_dtype(captioner.precision, device, on_gpu)), eye, tokenizer)


def load_model(found: LocalModel, cls: Any, device: torch.device, dtype: Any) -> Any:
    """The model on its device, ready to write; PrepError when a file is damaged or does not belong to it."""

    def load() -> Any:
        given = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True, "dtype": dtype}
        model, info = cls.from_pretrained(found.folder, local_files_only=True, trust_remote_code=False, **given)
        if missing := sorted(info["missing_keys"]):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise PrepError(f"{found.folder} lacks the weights {missing[0]}{more}.", repair_hint(found))
        if info["mismatched_keys"]:
            other = min(str(key[0]) for key in info["mismatched_keys"])
            raise PrepError(f"{found.folder}: {other} has another size than {CONFIG} says.", repair_hint(found))
        return model.to(device).eval()

    return load_from_folder(found, load)


def load_image_processor(found: LocalModel, side: int) -> Callable[[list[np.ndarray]], Any]:
    """What turns images into the model's array, B x 3 x side x side, with the folder's own settings.

    Pillow resizes, as it did when BLIP and GIT were trained. PrepError unless it makes squares of `side` pixels.
    """
    import numpy as np
    from transformers import AutoImageProcessor

    def load() -> Any:
        given = {"backend": "pil", "local_files_only": True, "trust_remote_code": False}
        return AutoImageProcessor.from_pretrained(found.folder, **given)

    processor = load_from_folder(found, load)

    def eye(images: list[np.ndarray]) -> Any:
        return processor(images, input_data_format="channels_last", return_tensors="pt")["pixel_values"]

    shape = tuple(load_from_folder(found, lambda: eye([np.zeros((8, 8, 3), np.uint8)])).shape[1:])
    if shape != (3, side, side):
        raise PrepError(
            f"{found.folder}: preprocessor_config.json makes images of {shape}, but the model wants {side} x {side}.",
            repair_hint(found),
        )
    return eye


def load_tokenizer(found: LocalModel) -> Any:
    """The model's tokenizer, from its folder alone."""
    from transformers import AutoTokenizer

    check_vocabulary(found)
    return load_from_folder(
        found,
        lambda: AutoTokenizer.from_pretrained(found.folder, local_files_only=True, trust_remote_code=False),
    )


def check_vocabulary(found: LocalModel) -> None:
    """PrepError unless the folder has a tokenizer: without one transformers makes up an empty one."""
    if not any((found.folder / name).is_file() for name in VOCABULARIES):
        raise PrepError(f"The model folder {found.folder} lacks {VOCABULARIES[0]}.", repair_hint(found))


def load_from_folder(found: LocalModel, load: Callable[[], T]) -> T:
    """What `load` makes of the model's folder with transformers, whose errors become one PrepError."""
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    quiet()
    try:
        return load()
    except torch.OutOfMemoryError:
        raise PrepError(
            f"{found.name} does not fit into the GPU's memory.",
            "Close what else uses it, give --precision float16, or run on the CPU: --device cpu",
        ) from None
    except SafetensorError as error:
        raise PrepError(
            f"A file of weights in {found.folder} is cut or damaged: {_line(error)}", repair_hint(found)
        ) from None
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError) as error:
        raise PrepError(f"{found.folder} cannot be loaded: {_line(error)}", repair_hint(found)) from None
    except StrictDataclassError as error:
        raise PrepError(f"{found.folder / CONFIG} is damaged: {_line(error)}", repair_hint(found)) from None


def _line(error: BaseException) -> str:
    """An error of transformers in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def quiet() -> None:
    """Keep transformers from printing: the one progress bar is the driver's."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def pick_dtype(precision: str, device: torch.device, on_gpu: str = "float32") -> Any:
    """torch's type for a precision; auto is float32, and `on_gpu` on a GPU."""
    import torch

    return getattr(torch, precision if precision != "auto" else "float32" if device.type == "cpu" else on_gpu)
