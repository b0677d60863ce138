"""Small models of images and words in the real formats, for tests: folders with config, safetensors, processor."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

TEXT = (
    "a an the man woman cat dog hat beard street sign word words letter with on in of and is says red blue old young "
    "sitting standing holding wearing looking photo picture his her smile coat door tree ' s . , \" ##s ##ing"
)
WORDS = tuple(TEXT.split())
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """For modules that import it: models this small only wait for one another's threads on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def photo(height: int, width: int) -> np.ndarray:
    """Smooth waves with some noise: neither flat nor random, different in every channel and at every size."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (7 + c) + c + height) * np.cos(y / (11 - c)) for c in range(3)]
    noise = np.random.default_rng(height * 10007 + width).normal(0, 8, (height, width, 3))
    level = 40 + (height * 37 + width * 91) % 170
    return np.clip(level + 60 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def normal(rgb: np.ndarray) -> np.ndarray:
    """H x W x 3 uint8 as 3 x H x W floats, with CLIP's mean and deviation: written from the formula."""
    return ((rgb.astype(np.float64) / 255 - MEAN) / STD).transpose(2, 0, 1)


def bert_tokenizer(folder: Path, more: tuple[str, ...] = ()) -> int:
    """A BERT tokenizer's files with a small vocabulary; returns how many tokens it has."""
    from transformers import BertTokenizerFast

    names = [*SPECIAL, *WORDS]
    (folder / "vocab.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab={name: number for number, name in enumerate(names)}, do_lower_case=True)
    for name in more:
        tokenizer.add_tokens([name], special_tokens=True)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def restless(model, seed: int = 0) -> None:
    """Give a model random weights so large that its words change with the image and from step to step."""
    import torch

    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.ndim > 1:
                weight.normal_(0, 0.8 / weight.shape[-1] ** 0.5)
                if "embed" in name:
                    weight.mul_(3.0)


def write_blip(folder: Path, side: int = 32, end: float = 0.0) -> Path:
    """A folder of the form of Salesforce/blip-image-captioning-base; `end` is added to the end token's bias."""
    import torch
    from transformers import BlipConfig, BlipForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    words = bert_tokenizer(folder, ("[DEC]", "[ENC]"))
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": words, "bos_token_id": words - 2, "sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 2}
    config = BlipConfig(
        text_config={**size, **text, "max_position_embeddings": 200},
        vision_config={**size, "image_size": side, "patch_size": 8, "initializer_range": 0.02},
    )
    model = BlipForConditionalGeneration(config)
    restless(model)
    with torch.no_grad():
        model.text_decoder.cls.predictions.bias[3] += end
    model.save_pretrained(folder)
    write_processor(folder, "BlipImageProcessor", {"size": {"height": side, "width": side}, "do_center_crop": False})
    return folder


def bpe_tokenizer(folder: Path, special: tuple[str, ...], **names: str):
    """A byte-level tokenizer as GPT-2's, OPT's and Qwen's: `special` first, then every byte and a few words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(folder)
    return fast


def write_blip2(folder: Path, side: int = 16, language: str = "opt") -> Path:
    """A folder of the form of Salesforce/blip2-opt-2.7b, or of blip2-flan-t5-xl."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, GPT2TokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    bpe_tokenizer(folder, ("<pad>", "</s>", "<image>"))
    plain = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    tokenizer = GPT2TokenizerFast(
        vocab=plain["vocab"],
        merges=[tuple(pair) for pair in plain["merges"]],
        bos_token="</s>",
        eos_token="</s>",
        unk_token="</s>",
        pad_token="<pad>",
        add_bos_token=True,
    )
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 200},
        "t5": {"d_model": 32, "d_ff": 48, "d_kv": 16, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0},
    }[language]
    text |= {"model_type": language, "vocab_size": len(tokenizer) + 4}
    ids = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    config = Blip2Config(
        vision_config={**size, "intermediate_size": 48, "image_size": side, "patch_size": 8},
        qformer_config={**size, "intermediate_size": 48, "vocab_size": 20, "encoder_hidden_size": 32},
        text_config={**size, **text, **ids} if language == "opt" else {**text, **ids},
        num_query_tokens=4,
        image_token_index=2,
    )
    model = Blip2ForConditionalGeneration(config)
    restless(model)
    model.save_pretrained(folder)
    write_processor(folder, "BlipImageProcessor", {"size": {"height": side, "width": side}})
    (folder / "processor_config.json").write_text('{"num_query_tokens": 4, "processor_class": "Blip2Processor"}')
    return folder


def write_git(folder: Path, side: int = 24, end: float = 0.0) -> Path:
    """A folder of the form of microsoft/git-base-coco; `end` is added to the end token's bias."""
    import torch
    from transformers import GitConfig, GitForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    words = bert_tokenizer(folder)
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": words, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = GitConfig(**size, **text, vision_config={**size, "image_size": side, "patch_size": 8})
    model = GitForCausalLM(config)
    restless(model)
    with torch.no_grad():
        model.output.bias[3] += end
    model.save_pretrained(folder)
    crop = {"do_center_crop": True, "crop_size": {"height": side, "width": side}}
    write_processor(folder, "CLIPImageProcessor", {"size": {"shortest_edge": side}, **crop})
    return folder


def write_clip(folder: Path) -> Path:
    """A CLIP folder as `push_to_hf_hub` writes it, with random weights that tell images and words apart."""
    import open_clip
    import torch
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    torch.manual_seed(7)
    model = open_clip.CLIP(**CLIP)
    with torch.no_grad():
        model.token_embedding.weight.normal_(std=1.0)
        model.logit_scale.fill_(math.log(20.0))
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": preprocess}))
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    return folder


def write_processor(folder: Path, kind: str, changes: dict) -> None:
    """preprocessor_config.json as the hub's folders have it."""
    plain = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": MEAN,
        "image_std": STD,
        "image_processor_type": kind,
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        **changes,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(plain), encoding="utf-8")
