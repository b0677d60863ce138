"""VLM: captions by a vision-language model such as Qwen-VL, JoyCaption (LLaVA) or Florence-2."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.adaptive_batches import AdaptiveBatcher
from pipeline.errors import PrepError
from pipeline.models.store import LocalModel
from pipeline.record import Annotation, Drop, Record
from pipeline.shell_words import quoted
from pipeline.stage import Work, option
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from taggers.captioners.captioner import Captioner, PredictedCaption
from taggers.captioners.generate import TokenFormat, decode_captions
from taggers.captioners.model_folder import (
    CONFIG,
    check_vocabulary,
    find_model_folder,
    load_from_folder,
    load_model,
    pick_dtype,
    read_json,
    repair_hint,
)
from taggers.captioners.vlm_prompt import CHAT_PROMPT, TASK_PROMPTS, answer_text, chat_text, check_prompt, fill_prompt
from taggers.device import torch_device
from taggers.tagger import PredictFn, PreparedPredictor, read_crop, tagging_work

if TYPE_CHECKING:
    import numpy as np
    import torch

# Captioners that take no questions, and prep's taggers for them.
CAPTIONERS = {"blip": "blip", "blip-2": "blip", "git": "git"}


@dataclass(frozen=True, slots=True)
class LoadedVlm:
    """A loaded model, its processor, and what it is asked when the user gives no prompt."""

    model: Any
    processor: Any
    token_format: TokenFormat
    default_prompt: str


@dataclass(frozen=True, kw_only=True)
class Vlm(Captioner):
    """Captions by a vision-language model that follows a prompt; deterministic.

    The score is the geometric mean of the probabilities of the caption's tokens, after the repetition penalties of
    the model's own settings.
    """

    name: ClassVar[str] = "vlm"
    records_per_batch: ClassVar[int] = 8  # inputs of a large image take 25 MB, and two batches are in memory
    inference_batch_size: ClassVar[int] = 4
    image_preparation: ClassVar[str] = "the model's own processor in transformers"
    decode_threads: ClassVar[int] = 1  # tokenizers change their settings while they work: not thread-safe

    model: str = option(
        "Qwen/Qwen3-VL-4B-Instruct",
        "Vision-language model: a hub id such as Qwen/Qwen2.5-VL-7B-Instruct, "
        "fancyfeast/llama-joycaption-beta-one-hf-llava or florence-community/Florence-2-base, or a folder with its "
        "files. Relative paths start at the workspace.",
        cache_key=False,
        metavar="MODEL",
    )
    max_tokens: int = option(512, "Most tokens of a caption; a token is about three quarters of a word.", low=1)
    prompt: str = option(
        "",
        "Question to the model. {token} and {class} are the subject's, {absorbed} is what --avoid lists. A part in "
        "[brackets] is left out where one of its placeholders is empty, as for regularization images. None: asks for "
        "one or two sentences, or for Florence-2's most detailed caption.",
    )
    system_prompt: str = option("", "System prompt, such as 'You are a helpful image captioner.'.")
    avoid: tuple[str, ...] = option(
        [], "Word that captions of subjects should not mention. Repeat it for more.", metavar="WORD"
    )

    def check(self) -> None:
        check_prompt(self.prompt)

    def load(self, workspace: Workspace) -> PredictFn:
        """The same question for every image, without a subject: arrays have none."""
        vlm = load_vlm(self, workspace)
        return _predictor(self, vlm, fill_prompt(self.prompt or vlm.default_prompt, "", "", self.avoid))

    def start(self, workspace: Workspace) -> Work:
        options = self.identified(workspace)
        vlm = load_vlm(options, workspace)
        work = tagging_work(options, _predictor(options, vlm, ""), workspace)
        return replace(work, load=partial(prepare_record, options, vlm, workspace))


def _predictor(options: Vlm, vlm: LoadedVlm, text: str) -> PreparedPredictor:
    batcher = AdaptiveBatcher(options.inference_batch_size, options.signature)
    return PreparedPredictor(
        partial(prepare_inputs, options, vlm, text), partial(caption_images, options, vlm, batcher)
    )


def prepare_record(
    options: Vlm, vlm: LoadedVlm, workspace: Workspace, record: Record
) -> dict[str, torch.Tensor] | Drop:
    """The model's inputs for a record's image and the question about its subject; a Drop without an image."""
    image = read_crop(options.label, workspace, record)
    if isinstance(image, Drop):
        return image
    prompt = options.prompt or vlm.default_prompt
    return prepare_inputs(options, vlm, fill_prompt(prompt, record.subject, record.class_name, options.avoid), image)


def load_vlm(options: Vlm, workspace: Workspace) -> LoadedVlm:
    """Load the model; PrepError when it does not take images and text, or needs code from its folder."""
    import transformers

    found = find_model_folder(options.model, workspace)
    model_type = _check_type(options, found)
    device = torch_device(options.device)
    # On a GPU the dtype of the published weights, on a CPU float32, which is fastest there.
    as_published = options.precision == "auto" and device.type != "cpu"
    dtype = "auto" if as_published else pick_dtype(options.precision, device)
    processor = load_processor(found)
    model = load_model(found, transformers.AutoModelForImageTextToText, device, dtype)
    ends = model.generation_config.eos_token_id
    ends = processor.tokenizer.eos_token_id if ends is None else ends
    end_tokens = tuple(ends) if isinstance(ends, list) else (ends,)
    # A copy of the tokenizer, as answers are decoded while a thread prepares the next questions.
    token_format = TokenFormat(copy.deepcopy(processor.tokenizer), end_tokens, options.signature, answer_text)
    vlm = LoadedVlm(model, processor, token_format, TASK_PROMPTS.get(model_type, CHAT_PROMPT))
    prompt = fill_prompt(options.prompt or vlm.default_prompt, "a", "b", options.avoid)
    load_from_folder(found, lambda: prepare_inputs(options, vlm, prompt, _blank()))  # fails now, not at the first image
    return vlm


def _check_type(options: Vlm, found: LocalModel) -> str:
    """The model's type; PrepError unless transformers has it as a model from images and text to text."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as TYPES

    config = read_json(found, CONFIG)
    model_type = escape_control(str(config.get("model_type", "unknown")))
    if model_type not in TYPES:
        code = ", with its own code, which prep does not run" if "auto_map" in config else ""
        raise PrepError(
            f"{found.folder} has another type of model (type {model_type}{code}).",
            "vlm takes image-text-to-text models of transformers, such as Qwen-VL or LLaVA.",
        )
    if model_type in CAPTIONERS:
        raise PrepError(
            f"{found.folder} has a captioner that takes no questions (type {model_type}).",
            f"Use its own tagger: prep tag {CAPTIONERS[model_type]} --model {quoted(options.model)}",
        )
    return model_type


def _blank() -> np.ndarray:
    import numpy as np

    return np.full((64, 64, 3), 128, np.uint8)


def load_processor(found: LocalModel) -> Any:
    """The model's processor of images and text; PrepError when it has none for images."""
    from transformers import AutoProcessor

    check_vocabulary(found)
    processor = load_from_folder(
        found, lambda: AutoProcessor.from_pretrained(found.folder, local_files_only=True, trust_remote_code=False)
    )
    if not hasattr(processor, "image_processor"):
        raise PrepError(f"{found.folder} lacks preprocessor_config.json.", repair_hint(found))
    return processor


def prepare_inputs(options: Vlm, vlm: LoadedVlm, text: str, image: np.ndarray) -> dict[str, torch.Tensor]:
    """The model's inputs for one image and the question about it."""
    from PIL import Image

    chat = chat_text(vlm.processor, options.system_prompt, text)
    bos = vlm.processor.tokenizer.bos_token
    # A template that writes the first token itself must not get a second one.
    settings = {"add_special_tokens": False} if bos and chat.startswith(bos) else {}
    inputs = vlm.processor(text=[chat], images=[Image.fromarray(image)], return_tensors="pt", **settings)
    return dict(inputs)


def caption_images(
    options: Vlm, vlm: LoadedVlm, batcher: AdaptiveBatcher, inputs: list[dict[str, torch.Tensor]]
) -> list[list[Annotation]]:
    """A caption of each image.

    Only inputs of the same shapes are batched, so nothing is padded and a caption does not depend on its batch.
    """
    by_shape: dict[Any, list[int]] = {}
    for number, one in enumerate(inputs):
        by_shape.setdefault(tuple((name, tuple(value.shape)) for name, value in one.items()), []).append(number)
    captions: dict[int, PredictedCaption] = {}
    for numbers in by_shape.values():
        answers = batcher.run(partial(generate_answers, options, vlm), [inputs[number] for number in numbers])
        captions |= dict(zip(numbers, answers, strict=True))
    return options.caption_annotations([captions[number] for number in range(len(inputs))])


def generate_answers(options: Vlm, vlm: LoadedVlm, inputs: Sequence[dict[str, torch.Tensor]]) -> list[PredictedCaption]:
    """The model's answers to inputs of the same shapes, in one batch."""
    import torch

    batch = {name: torch.cat([one[name] for one in inputs]).to(vlm.model.device) for name in inputs[0]}
    batch = {k: v.to(vlm.model.dtype) if v.is_floating_point() else v for k, v in batch.items()}
    log_probs: list[torch.Tensor] = []

    def record_best(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Keep each step's best log-probability; those of all 150,000 tokens would fill the memory."""
        log_probs.append(scores.float().log_softmax(-1).max(-1).values)
        return scores

    with torch.inference_mode():
        tokens = vlm.model.generate(
            **batch, generation_config=greedy_settings(options, vlm), logits_processor=[record_best]
        )
    start = 1 if vlm.model.config.is_encoder_decoder else batch["input_ids"].shape[1]
    return decode_captions(vlm.token_format, tokens[:, start:], torch.stack(log_probs, 1).cpu())


def greedy_settings(options: Vlm, vlm: LoadedVlm) -> Any:
    """The model's own generation settings, but without sampling and beams, and with the option's length."""
    settings = copy.deepcopy(vlm.model.generation_config)
    settings.max_length = settings.temperature = settings.top_p = settings.top_k = settings.min_p = None
    settings.do_sample, settings.num_beams, settings.early_stopping = False, 1, False
    settings.max_new_tokens = options.max_tokens
    settings.eos_token_id = list(vlm.token_format.end_tokens)
    return settings
