"""CLIP models of open_clip: find their files, load them without any network, embed images and texts."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.models.file_hashes import known_sha256, model_hashes
from pipeline.models.store import find_model
from pipeline.workspace import Workspace
from taggers.device import torch_device

if TYPE_CHECKING:
    import numpy as np
    import torch

CONFIG = "open_clip_config.json"
# Names under which weights lie beside CONFIG, the first that is there is used: tensors only before pickles.
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model", "tokenizer.model")
GET = (
    f"Name a folder with {CONFIG} and its weights, such as a copy of laion/CLIP-ViT-B-32-laion2B-s34B-b79K or "
    "timm/ViT-B-16-SigLIP on Hugging Face; or an architecture of open_clip and its weights: "
    "--model ViT-L-14-quickgelu --pretrained FILE.safetensors"
)
EMBEDDING = "1"  # raise it when the same files give other embeddings
_TEXTS = 256  # prompts in one call of the text tower


@dataclass(frozen=True, slots=True)
class ClipFiles:
    """A CLIP model's files, and the name it goes by."""

    name: str
    config: Path
    weights: Path
    models: tuple[Model, ...]  # provenance

    @property
    def key(self) -> str:
        """The same key, the same embeddings: sha256 over the files' hashes and the architecture's name."""
        parts = [EMBEDDING, self.config.name, *(model.sha256 for model in self.models)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ClipModel:
    """A loaded model: images and texts to unit vectors of one space."""

    model: Any
    transform: Any  # PIL image to normalized tensor, as the model was trained
    tokenize: Any
    scale: float  # what cosines are multiplied with before a softmax
    device: torch.device


def find_clip(model: str, pretrained: str, workspace: Workspace) -> ClipFiles:
    """The files of a model folder, or of an architecture's name and a weights file; PrepError says what is missing."""
    architecture = _architectures() / f"{Path(model).name}.json"
    if not model:
        raise PrepError("clip needs a model, and none is given.", GET)
    if pretrained:
        if not architecture.is_file():
            raise PrepError(f"open_clip knows no architecture {model!r}.", "Look them up: open_clip.list_models()")
        weights = workspace.source(os.path.expanduser(pretrained))  # noqa: PTH111 - raises for an unknown ~name
        if not weights.is_file():
            raise PrepError(f"The weights {weights} do not exist.", GET)
        sha = known_sha256(weights)
        return ClipFiles(model, architecture, weights, (Model(f"{model}/{weights.name}", sha),))
    if architecture.is_file() and not workspace.source(model).is_dir():
        raise PrepError(f"{model} is an architecture; clip needs its weights too.", GET)
    found = find_model(model, workspace, (CONFIG,))
    here = [name for name in WEIGHTS if (found.folder / name).is_file()]
    if not here:
        raise PrepError(f"The model folder {found.folder} has no weights: none of {', '.join(WEIGHTS)}.", GET)
    find_model(model, workspace, (CONFIG, here[0]))  # refuses pointers and half files
    files = (CONFIG, here[0], *(name for name in TOKENIZER if (found.folder / name).is_file()))
    return ClipFiles(found.name, found.folder / CONFIG, found.folder / here[0], model_hashes(found, files))


def load_clip(source: ClipFiles, device: str) -> ClipModel:
    """The model on its device, in float32; PrepError when its files are not a whole CLIP model."""
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config, preprocess = read_config(source)
    where = torch_device(device)
    net = _build(source, config)
    _fill(net, source)
    # The size is the tower's own, as open_clip has it; the rest is what the model was trained with.
    settings = PreprocessCfg(**preprocess | {"size": net.visual.image_size})
    transform = image_transform_v2(settings, is_train=False)
    with torch.no_grad():
        scale = float(net.logit_scale.exp().reshape(-1)[0])
    return ClipModel(net.to(where).eval(), transform, _tokenizer(source, config["text_cfg"]), scale, where)


def embed_images(net: ClipModel, images: list[np.ndarray]) -> np.ndarray:
    """Unit vectors of H x W x 3 uint8 RGB images: n x size, float32."""
    import torch
    from PIL import Image

    ready = torch.stack([net.transform(Image.fromarray(image)) for image in images])
    with torch.inference_mode():
        return _numbers(net.model.encode_image(ready.to(net.device), normalize=True))


def embed_texts(net: ClipModel, texts: list[str]) -> np.ndarray:
    """Unit vectors of texts: n x size, float32. What a model's context cannot hold is cut off."""
    import numpy as np
    import torch

    rows = []
    with torch.inference_mode():
        for start in range(0, len(texts), _TEXTS):
            tokens = net.tokenize(texts[start : start + _TEXTS])
            rows.append(_numbers(net.model.encode_text(tokens.to(net.device), normalize=True)))
    return np.concatenate(rows)


def read_config(source: ClipFiles) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a model is built from, and how its images are prepared, as open_clip spells both."""
    try:
        plain = json.loads(source.config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise PrepError(f"{source.config} is not JSON.", GET) from None
    if source.config.name != CONFIG:
        return plain, _trained_with(source.name)
    model = plain.get("model_cfg") if isinstance(plain, dict) else None
    towers = isinstance(model, dict) and all(isinstance(model.get(key), dict) for key in ("vision_cfg", "text_cfg"))
    if not isinstance(model, dict) or not towers:
        raise PrepError(f"{source.config} has no model_cfg with vision_cfg and text_cfg.", GET)
    return model, _known(plain.get("preprocess_cfg") or {})


def _trained_with(architecture: str) -> dict[str, Any]:
    """How published weights of an architecture want their images; PrepError where they do not agree."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    ways = [_known(get_pretrained_cfg(architecture, tag)) for tag in list_pretrained_tags_by_model(architecture)]
    if any(way != ways[0] for way in ways):
        raise PrepError(f"Weights of {architecture} differ in how they want images.", f"Use a folder with {CONFIG}.")
    return ways[0] if ways else {}


def _known(preprocess: dict[str, Any]) -> dict[str, Any]:
    names = ("mean", "std", "interpolation", "resize_mode", "fill_color")
    return {name: preprocess[name] for name in names if preprocess.get(name) is not None}


def _architectures() -> Path:
    """The folder of open_clip's own configurations; finding it imports nothing."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise PrepError("open_clip is not installed.", "Install it: python -m pip install open-clip-torch")
    return Path(spec.origin).parent / "model_configs"


def _build(source: ClipFiles, config: dict[str, Any]) -> Any:
    """The model without weights: never any network, unlike open_clip's own factory."""
    from open_clip import CLIP, CoCa, CustomTextCLIP

    if hub := config["text_cfg"].get("hf_model_name"):
        raise PrepError(f"{source.name} has a text tower of its own, {hub}, which prep cannot load.", GET)
    kind = CLIP
    if config.get("custom_text"):
        kind = CoCa if "multimodal_cfg" in config else CustomTextCLIP
    parts = {key: value for key, value in config.items() if key != "custom_text"}
    if "timm_model_name" in config["vision_cfg"]:
        parts["vision_cfg"] = config["vision_cfg"] | {"timm_model_pretrained": False}
    try:
        return kind(**parts)
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError) as error:
        raise PrepError(f"open_clip cannot build what {source.config} describes: {_line(error)}", GET) from None


def _fill(net: Any, source: ClipFiles) -> None:
    """Load the weights: tensors only, every one of the model's."""
    from open_clip.factory import load_checkpoint
    from safetensors import SafetensorError

    if source.weights.suffix not in (".safetensors", ".bin", ".pt", ".pth"):
        raise PrepError(f"{source.weights} is neither safetensors nor a PyTorch file.", GET)
    try:
        load_checkpoint(net, str(source.weights), strict=True, weights_only=True)
    except pickle.UnpicklingError:
        raise PrepError(
            f"{source.weights} is not a file of tensors: it is damaged, or holds code, which prep never runs.", GET
        ) from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, StopIteration) as error:
        raise PrepError(f"{source.weights} does not fill {source.name}: {_line(error)}", GET) from None


def _tokenizer(source: ClipFiles, text: dict[str, Any]) -> Any:
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    length, settings = text.get("context_length", 77), text.get("tokenizer_kwargs") or {}
    if not text.get("hf_tokenizer_name"):
        return SimpleTokenizer(context_length=length, **settings)
    mode, folder = text.get("tokenizer_mode"), source.config.parent
    try:
        if source.config.name != CONFIG:
            raise OSError
        return HFTokenizer(str(folder), length, tokenizer_mode=mode, local_files_only=True, **settings)
    except (OSError, ValueError):
        raise PrepError(
            f"{source.name} needs its tokenizer's files, and they are not in a folder with it.", GET
        ) from None


def _numbers(rows: Any) -> np.ndarray:
    import numpy as np

    return np.ascontiguousarray(rows.float().cpu().numpy())


def _line(error: Exception) -> str:
    """An error's first two lines as one: torch names the module in the first, the tensors in the second."""
    return " ".join(" ".join(str(error).strip().splitlines()[:2]).split())[:300] or type(error).__name__
