"""Folders of transformers models: finding them, and loading them safely and offline."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pipeline.errors import PrepError
from pipeline.models.store import LocalModel, find_model, install_hint, require_files
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from taggers.device import torch_device

if TYPE_CHECKING:
    import numpy as np
    import torch

T = TypeVar("T")
Precision = Literal["auto", "float32", "bfloat16", "float16"]

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
# All files that decide what a model writes; each folder has some of them.
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
class ModelParts:
    """A loaded BLIP or GIT: the model, its image processor and its tokenizer."""

    model: Any
    image_processor: Callable[[list[np.ndarray]], Any]
    tokenizer: Any


def find_model_folder(model: str, workspace: Workspace) -> LocalModel:
    """The model's folder; PrepError unless it has the configuration and all weights as safetensors."""
    found = find_model(model, workspace, (CONFIG,))
    return require_files(found.folder, model_files(found))


def model_files(found: LocalModel) -> tuple[str, ...]:
    """Names of the files that decide what the model writes, weights last."""
    return (*(name for name in FILES if (found.folder / name).is_file()), *_weights(found))


def _weights(found: LocalModel) -> tuple[str, ...]:
    if (found.folder / WEIGHTS).is_file():
        return (WEIGHTS,)
    if (found.folder / INDEX).is_file():
        shards = read_json(found, INDEX).get("weight_map")
        if isinstance(shards, dict) and shards and all(Path(str(name)).name == name for name in shards.values()):
            return (INDEX, *sorted(set(shards.values())))
        raise PrepError(f"{found.folder / INDEX} does not list the model's files.", repair_hint(found))
    if pickles := sorted(
        path.name for ending in ("bin", "pt", "pth", "ckpt") for path in found.folder.glob(f"*.{ending}")
    ):
        raise PrepError(
            f"{found.folder} has its weights only as {pickles[0]}, a pickle, which could run any code.",
            f"Get a copy or a revision of the model with {WEIGHTS}.",
        )
    raise PrepError(f"The model folder {found.folder} lacks {WEIGHTS}.", repair_hint(found))


def repair_hint(found: LocalModel) -> str:
    """How to repair a folder with missing or damaged files."""
    return install_hint(found.name) if "/" in found.name else f"Copy the model's files into {found.folder} again."


def read_json(found: LocalModel, name: str) -> dict[str, Any]:
    """A JSON object from the model's folder; PrepError for anything else."""
    try:
        content = json.loads((found.folder / name).read_text(encoding="utf-8"))
    except (ValueError, OSError):
        content = None
    if not isinstance(content, dict):
        raise PrepError(f"{found.folder / name} is damaged: it is not a JSON object.", repair_hint(found))
    return content


def check_model_class(found: LocalModel, accepted: tuple[str, ...], tagger: str) -> str:
    """The model's class in its configuration; PrepError when the tagger does not accept it."""
    config = read_json(found, CONFIG)
    classes = config.get("architectures")
    name = str(classes[0]) if isinstance(classes, list) and classes else "no class"
    if name not in accepted:
        raise PrepError(
            f"{found.folder} has another type of model ({escape_control(name)}, type {_type(config)}).",
            f"{tagger} takes {' or '.join(accepted)}.",
        )
    return name


def _type(config: dict[str, Any]) -> str:
    return escape_control(str(config.get("model_type", "unknown")))


def load_parts(
    found: LocalModel, name: str, device: str, precision: Precision, gpu_precision: dict[str, str]
) -> ModelParts:
    """The model of the class `name` on its device, its image processor and its tokenizer.

    `gpu_precision` is what `auto` means on a GPU, by the type of the language model; float32 for others.
    """
    import transformers

    cls = getattr(transformers, name)
    config = load_from_folder(found, lambda: cls.config_class.from_pretrained(found.folder, local_files_only=True))
    on = torch_device(device)
    image_processor = load_image_processor(found, config.vision_config.image_size)
    tokenizer = load_tokenizer(found)
    dtype = pick_dtype(precision, on, gpu_precision.get(config.get_text_config().model_type, "float32"))
    return ModelParts(load_model(found, cls, on, dtype), image_processor, tokenizer)


def load_model(found: LocalModel, cls: Any, device: torch.device, dtype: Any) -> Any:
    """The model on its device, for inference; PrepError when a file is damaged or of another model."""

    def load() -> Any:
        options = {
            "use_safetensors": True,
            "output_loading_info": True,
            "ignore_mismatched_sizes": True,
            "dtype": dtype,
        }
        model, info = cls.from_pretrained(found.folder, local_files_only=True, trust_remote_code=False, **options)
        if missing := sorted(info["missing_keys"]):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise PrepError(f"{found.folder} lacks the weights {missing[0]}{more}.", repair_hint(found))
        if info["mismatched_keys"]:
            name = min(str(key[0]) for key in info["mismatched_keys"])
            raise PrepError(f"{found.folder}: {name} has another size than {CONFIG} says.", repair_hint(found))
        return model.to(device).eval()

    return load_from_folder(found, load)


def load_image_processor(found: LocalModel, side: int) -> Callable[[list[np.ndarray]], Any]:
    """From images to the model's input, B x 3 x side x side, with the folder's settings.

    Resizes with Pillow, as in the training of BLIP and GIT. PrepError unless it makes squares of `side` pixels.
    """
    import numpy as np
    from transformers import AutoImageProcessor

    def load() -> Any:
        options = {"backend": "pil", "local_files_only": True, "trust_remote_code": False}
        return AutoImageProcessor.from_pretrained(found.folder, **options)

    processor = load_from_folder(found, load)

    def image_processor(images: list[np.ndarray]) -> Any:
        return processor(images, input_data_format="channels_last", return_tensors="pt")["pixel_values"]

    shape = tuple(load_from_folder(found, lambda: image_processor([np.zeros((8, 8, 3), np.uint8)])).shape[1:])
    if shape != (3, side, side):
        raise PrepError(
            f"{found.folder}: preprocessor_config.json makes images of {shape}, but the model wants {side} x {side}.",
            repair_hint(found),
        )
    return image_processor


def load_tokenizer(found: LocalModel) -> Any:
    """The model's tokenizer, from its folder."""
    from transformers import AutoTokenizer

    check_vocabulary(found)
    return load_from_folder(
        found,
        lambda: AutoTokenizer.from_pretrained(found.folder, local_files_only=True, trust_remote_code=False),
    )


def check_vocabulary(found: LocalModel) -> None:
    """PrepError unless the folder has a tokenizer: without one transformers makes an empty one."""
    if not any((found.folder / name).is_file() for name in VOCABULARIES):
        raise PrepError(f"The model folder {found.folder} lacks {VOCABULARIES[0]}.", repair_hint(found))


def load_from_folder(found: LocalModel, load: Callable[[], T]) -> T:
    """The result of `load`, which uses transformers; its errors become a PrepError about the folder."""
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    quiet()
    try:
        return load()
    except torch.OutOfMemoryError:
        raise PrepError(
            f"{found.name} does not fit into the GPU's memory.",
            "Close other programs that use the GPU, or add: --precision float16, or --device cpu",
        ) from None
    except SafetensorError as error:
        raise PrepError(
            f"A file of weights in {found.folder} is incomplete or damaged: {_line(error)}", repair_hint(found)
        ) from None
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError) as error:
        raise PrepError(f"{found.folder} cannot be loaded: {_line(error)}", repair_hint(found)) from None
    except StrictDataclassError as error:
        raise PrepError(f"{found.folder / CONFIG} is damaged: {_line(error)}", repair_hint(found)) from None


def _line(error: BaseException) -> str:
    """An error of transformers in one line: its messages have line breaks inside sentences."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def quiet() -> None:
    """Keep transformers from printing: prep has its own progress bar."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def pick_dtype(precision: str, device: torch.device, on_gpu: str = "float32") -> Any:
    """torch's dtype of a precision; auto is float32, and `on_gpu` on a GPU."""
    import torch

    return getattr(torch, precision if precision != "auto" else "float32" if device.type == "cpu" else on_gpu)
