"""Small chat models that see, in the real formats: Qwen2.5-VL, LLaVA as JoyCaption has it, and Florence-2."""

from __future__ import annotations

from pathlib import Path

from tests.tiny import bpe_tokenizer, restless

QWEN_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# JoyCaption's wants a text as content, writes the first token and the image's place itself.
JOY_CHAT = (
    "<s>{% for message in messages %}<|{{ message['role'] }}|>"
    "{{ ('<image>' if message['role'] == 'user' else '') + message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def write_qwen(folder: Path, chat: str = QWEN_CHAT) -> Path:
    """A folder of the form of Qwen/Qwen2.5-VL-7B-Instruct, whose settings want chance: prep must not take it."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    special = ("<pad>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
    tokenizer = bpe_tokenizer(folder, (*special, "<|video_pad|>"), eos_token="<|im_end|>", pad_token="<pad>")
    patch = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2}
    pixels = {"min_pixels": 16 * 16, "max_pixels": 32 * 32}
    Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**patch, **pixels), tokenizer, Qwen2VLVideoProcessor(**patch, **pixels), chat
    ).save_pretrained(folder)
    seeing = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    config = Qwen2_5_VLConfig(
        text_config={**SIZE, "num_key_value_heads": 2, "vocab_size": len(tokenizer), "rope_parameters": rope},
        vision_config={**seeing, "patch_size": 4, "window_size": 16, "fullatt_block_indexes": [1]},
        image_token_id=5,
        video_token_id=6,
        vision_start_token_id=3,
        vision_end_token_id=4,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    settings = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
    return _save(model, folder, {**settings, "eos_token_id": [2, 0], "pad_token_id": 0, "bos_token_id": None})


def write_joy(folder: Path, chat: str | None = JOY_CHAT) -> Path:
    """A folder of the form of fancyfeast/llama-joycaption-beta-one-hf-llava."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, SiglipImageProcessor

    special = ("<pad>", "<s>", "<|end|>", "<image>", "<|user|>", "<|assistant|>", "<|system|>")
    tokenizer = bpe_tokenizer(folder, special, bos_token="<s>", eos_token="<|end|>", pad_token="<pad>")
    eye = SiglipImageProcessor(size={"height": 16, "width": 16})
    LlavaProcessor(eye, tokenizer, 4, "full", chat).save_pretrained(folder)
    config = LlavaConfig(
        vision_config={**SIZE, "model_type": "siglip_vision_model", "image_size": 16, "patch_size": 4},
        text_config={**SIZE, "model_type": "llama", "vocab_size": len(tokenizer), "num_key_value_heads": 2},
        image_token_index=3,
        image_seq_length=16,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    return _save(
        LlavaForConditionalGeneration(config), folder, {"eos_token_id": 2, "pad_token_id": 0, "bos_token_id": 1}
    )


def write_florence(folder: Path) -> Path:
    """A folder of the form of florence-community/Florence-2-base."""
    from transformers import (
        BartTokenizerFast,
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
    )

    plain = bpe_tokenizer(folder, ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<image>"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    import json

    body = json.loads(plain.backend_tokenizer.to_str())["model"]
    tokenizer = BartTokenizerFast(
        vocab=body["vocab"], merges=[tuple(pair) for pair in body["merges"]], mask_token="<mask>", **names,
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    side = {"height": 32, "width": 32}
    eye = CLIPImageProcessor(size=side, do_center_crop=False, crop_size=side)
    eye.image_seq_length = 2
    Florence2Processor(eye, tokenizer).save_pretrained(folder)
    seeing = {
        "depths": [1, 1, 1, 1],
        "embed_dim": [8, 8, 16, 16],
        "num_heads": [2, 2, 2, 2],
        "num_groups": [2, 2, 2, 2],
    }
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    text = {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": len(tokenizer)}
    config = Florence2Config(
        text_config={"model_type": "bart", **text, **layers, **ids, "max_position_embeddings": 200},
        vision_config={**seeing, "projection_dim": 32, "window_size": 4},
        image_token_id=5,
    )
    settings = {"num_beams": 3, "early_stopping": True, "no_repeat_ngram_size": 3, "forced_eos_token_id": 2}
    return _save(Florence2ForConditionalGeneration(config), folder, {**settings, **ids})


def _save(model, folder: Path, settings: dict) -> Path:
    from transformers import GenerationConfig

    restless(model)
    model.generation_config = GenerationConfig(**settings)
    model.save_pretrained(folder)
    return folder
