"""CLIP models of open_clip: finding their files, loading them offline, and embedding images and texts."""

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
# Names of weights next to CONFIG; the first that exists is used, safetensors before pickles.
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model", "tokenizer.model")
GET = (
    f"Give a folder with {CONFIG} and its weights, such as a copy of laion/CLIP-ViT-B-32-laion2B-s34B-b79K or "
    "timm/ViT-B-16-SigLIP on Hugging Face; or an architecture of open_clip and its weights: "
    "--model ViT-L-14-quickgelu --pretrained FILE.safetensors"
)
EMBEDDING = "1"  # raise it when the same files give other embeddings
_TEXTS = 256  # prompts in one call of the text tower


@dataclass(frozen=True, slots=True)
class ClipFiles:
    """A CLIP model's files and its name."""

    name: str
    config: Path
    weights: Path
    models: tuple[Model, ...]  # provenance

    @property
    def key(self) -> str:
        """sha256 over the files' hashes and the architecture's name: with the same key, embeddings are the same."""
        parts = [EMBEDDING, self.config.name, *(model.sha256 for model in self.models)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ClipModel:
    """A loaded model, from images and texts to unit vectors of one space."""

    model: Any
    transform: Any  # PIL image to normalized tensor, as the model was trained
    tokenize: Any
    scale: float  # cosines are multiplied with it before a softmax
    device: torch.device


def find_clip(model: str, pretrained: str, workspace: Workspace) -> ClipFiles:
    """The files of a model folder, or of an architecture and a weights file; PrepError says what is missing."""
    architecture = _architectures() / f"{Path(model).name}.json"
    if not model:
        raise PrepError("clip needs a model: --model is not given.", GET)
    if pretrained:
        if not architecture.is_file():
            raise PrepError(
                f"open_clip has no architecture {model!r}.",
                "List them: python -c 'import open_clip; print(open_clip.list_models())'",
            )
        weights = workspace.source(os.path.expanduser(pretrained))  # noqa: PTH111 - raises for an unknown ~name
        if not weights.is_file():
            raise PrepError(f"The weights {weights} do not exist.", GET)
        sha = known_sha256(weights)
        return ClipFiles(model, architecture, weights, (Model(f"{model}/{weights.name}", sha),))
    if architecture.is_file() and not workspace.source(model).is_dir():
        raise PrepError(f"{model} is an architecture, and needs --pretrained with its weights.", GET)
    found = find_model(model, workspace, (CONFIG,))
    present = [name for name in WEIGHTS if (found.folder / name).is_file()]
    if not present:
        raise PrepError(f"The model folder {found.folder} has no weights: none of {', '.join(WEIGHTS)}.", GET)
    find_model(model, workspace, (CONFIG, present[0]))  # refuses Git LFS pointers and incomplete files
    files = (CONFIG, present[0], *(name for name in TOKENIZER if (found.folder / name).is_file()))
    return ClipFiles(found.name, found.folder / CONFIG, found.folder / present[0], model_hashes(found, files))


def load_clip(source: ClipFiles, device: str) -> ClipModel:
    """The model on its device, in float32; PrepError when its files are not a complete CLIP model."""
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config, preprocess = read_config(source)
    on = torch_device(device)
    model = _build(source, config)
    _load_weights(model, source)
    # The size is that of the image tower, as in open_clip; the other settings are those of training.
    settings = PreprocessCfg(**preprocess | {"size": model.visual.image_size})
    transform = image_transform_v2(settings, is_train=False)
    with torch.no_grad():
        scale = float(model.logit_scale.exp().reshape(-1)[0])
    return ClipModel(model.to(on).eval(), transform, _tokenizer(source, config["text_cfg"]), scale, on)


def embed_images(clip: ClipModel, images: list[np.ndarray]) -> np.ndarray:
    """Unit vectors of H x W x 3 uint8 RGB images: n x size, float32."""
    import torch
    from PIL import Image

    batch = torch.stack([clip.transform(Image.fromarray(image)) for image in images])
    with torch.inference_mode():
        return _to_numpy(clip.model.encode_image(batch.to(clip.device), normalize=True))


def embed_texts(clip: ClipModel, texts: list[str]) -> np.ndarray:
    """Unit vectors of texts: n x size, float32. Texts are cut at the model's context length."""
    import numpy as np
    import torch

    rows = []
    with torch.inference_mode():
        for start in range(0, len(texts), _TEXTS):
            tokens = clip.tokenize(texts[start : start + _TEXTS])
            rows.append(_to_numpy(clip.model.encode_text(tokens.to(clip.device), normalize=True)))
    return np.concatenate(rows)


def read_config(source: ClipFiles) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's configuration and that of its image preparation, in open_clip's format."""
    try:
        data = json.loads(source.config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise PrepError(f"{source.config} is not JSON.", GET) from None
    if source.config.name != CONFIG:
        return data, _published_preprocessing(source.name)
    model = data.get("model_cfg") if isinstance(data, dict) else None
    towers = isinstance(model, dict) and all(isinstance(model.get(key), dict) for key in ("vision_cfg", "text_cfg"))
    if not isinstance(model, dict) or not towers:
        raise PrepError(f"{source.config} has no model_cfg with vision_cfg and text_cfg.", GET)
    return model, _known(data.get("preprocess_cfg") or {})


def _published_preprocessing(architecture: str) -> dict[str, Any]:
    """How images are prepared for the published weights of an architecture; PrepError where that differs."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    settings = [_known(get_pretrained_cfg(architecture, tag)) for tag in list_pretrained_tags_by_model(architecture)]
    if any(other != settings[0] for other in settings):
        raise PrepError(
            f"Published weights of {architecture} prepare images differently.", f"Use a folder with {CONFIG}."
        )
    return settings[0] if settings else {}


def _known(preprocess: dict[str, Any]) -> dict[str, Any]:
    names = ("mean", "std", "interpolation", "resize_mode", "fill_color")
    return {name: preprocess[name] for name in names if preprocess.get(name) is not None}


def _architectures() -> Path:
    """The folder of open_clip's configurations, found without importing it."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise PrepError("open_clip is not installed.", "Install it: python -m pip install open-clip-torch")
    return Path(spec.origin).parent / "model_configs"


def _build(source: ClipFiles, config: dict[str, Any]) -> Any:
    """The model without weights; unlike open_clip's factory it never downloads anything."""
    from open_clip import CLIP, CoCa, CustomTextCLIP

    if hub := config["text_cfg"].get("hf_model_name"):
        raise PrepError(f"{source.name} has a text tower of transformers, {hub}, which prep does not load.", GET)
    cls = CLIP
    if config.get("custom_text"):
        cls = CoCa if "multimodal_cfg" in config else CustomTextCLIP
    parts = {key: value for key, value in config.items() if key != "custom_text"}
    if "timm_model_name" in config["vision_cfg"]:
        parts["vision_cfg"] = config["vision_cfg"] | {"timm_model_pretrained": False}
    try:
        return cls(**parts)
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError) as error:
        raise PrepError(f"open_clip cannot build what {source.config} describes: {_two_lines(error)}", GET) from None


def _load_weights(model: Any, source: ClipFiles) -> None:
    """Load the weights: tensors only, and all that the model has."""
    from open_clip.factory import load_checkpoint
    from safetensors import SafetensorError

    if source.weights.suffix not in (".safetensors", ".bin", ".pt", ".pth"):
        raise PrepError(f"{source.weights} is neither safetensors nor a PyTorch file.", GET)
    try:
        load_checkpoint(model, str(source.weights), strict=True, weights_only=True)
    except pickle.UnpicklingError:
        raise PrepError(
            f"{source.weights} is not a file of tensors: it is damaged, or holds code, which prep never executes.", GET
        ) from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, StopIteration) as error:
        raise PrepError(f"{source.weights} does not fit {source.name}: {_two_lines(error)}", GET) from None


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
        raise PrepError(f"{source.name} needs the files of its tokenizer in its folder.", GET) from None


def _to_numpy(rows: Any) -> np.ndarray:
    import numpy as np

    return np.ascontiguousarray(rows.float().cpu().numpy())


def _two_lines(error: Exception) -> str:
    """An error's first two lines in one: torch names the module in the first, the tensors in the second."""
    return " ".join(" ".join(str(error).strip().splitlines()[:2]).split())[:300] or type(error).__name__
