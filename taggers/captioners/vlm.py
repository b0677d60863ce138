"""VLM: a sentence about each image from a chat model that sees: Qwen-VL, JoyCaption (LLaVA), Florence-2."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.adaptive_batches import AdaptiveBatcher
from pipeline.errors import PrepError
from pipeline.models.store import LocalModel
from pipeline.record import Annotation, Drop, Record
from pipeline.stage import Work, option
from pipeline.tag_text import escape_control, format_tag
from pipeline.workspace import Workspace
from taggers.captioners.captioner import (
    CONFIG,
    Captioner,
    PredictedCaption,
    check_vocabulary,
    find_model_folder,
    load_from_folder,
    load_model,
    pick_dtype,
    read_json,
    repair_hint,
)
from taggers.captioners.generate import TokenFormat, decode_captions, one_line
from taggers.device import torch_device
from taggers.tagger import PredictFn, PreparedPredictor, tagging_work
from taggers.tagger import read_crop as read_image

if TYPE_CHECKING:
    import numpy as np
    import torch

CHAT_PROMPT = (
    "Describe this image in one or two plain sentences: who or what it shows, pose and expression, clothing, "
    "surroundings, light, and what kind of image it is.[ Do not mention: {absorbed}.] "
    "Answer with the description alone."
)
# Models that know tasks instead of questions.
TASK_PROMPTS = {"florence2": "<MORE_DETAILED_CAPTION>"}
FIELDS = ("token", "class", "absorbed")
# Captioners that take no questions, and the taggers that know how to use them.
CAPTIONERS = {"blip": "blip", "blip-2": "blip", "git": "git"}


@dataclass(frozen=True, slots=True)
class LoadedVlm:
    """A loaded model, what prepares its inputs, and what it is asked when the user gives no prompt."""

    model: Any
    processor: Any
    token_format: TokenFormat
    default_prompt: str


@dataclass(frozen=True, kw_only=True)
class Vlm(Captioner):
    """A description of each image by a model that sees and chats, the same each time.

    The score is the geometric mean of the probabilities of the caption's tokens, after the penalties
    that the model's own settings put on repetition.
    """

    name: ClassVar[str] = "vlm"
    records_per_batch: ClassVar[int] = 8  # inputs of a large image take 25 MB, and two batches wait
    inference_batch_size: ClassVar[int] = 4
    image_preparation: ClassVar[str] = "the model's own processor in transformers"
    decode_threads: ClassVar[int] = (
        1  # a tokenizer's settings change while it works: two threads would trip over each other
    )

    model: str = option(
        "Qwen/Qwen3-VL-4B-Instruct",
        "Model that answers to an image and a text: a hub id such as Qwen/Qwen2.5-VL-7B-Instruct, "
        "fancyfeast/llama-joycaption-beta-one-hf-llava or florence-community/Florence-2-base, or a folder with "
        "its files; a relative path starts at the workspace.",
        cache_key=False,
        metavar="MODEL",
    )
    max_tokens: int = option(512, "Most tokens (about three quarters of a word each) in a caption.", low=1)
    prompt: str = option(
        "",
        "What the model is asked; {token} and {class} name the image's subject, {absorbed} stands for what --avoid "
        "lists. A part in square brackets is left out where a name in it stands for nothing, as for "
        "regularization images. None: a question for one or two sentences, or Florence-2's longest caption.",
    )
    system_prompt: str = option("", "What the model is told before, such as 'You are a helpful image captioner.'.")
    avoid: tuple[str, ...] = option(
        [], "A word that captions of subjects should not mention; may be given several times.", metavar="WORD"
    )

    def check(self) -> None:
        for name in re.findall(r"\{(.*?)\}", self.prompt):
            if name not in FIELDS:
                raise PrepError(f"vlm: prompt has an unknown name {{{name}}}.", "Known: {token}, {class}, {absorbed}.")

    def load(self, workspace: Workspace) -> PredictFn:
        """The same question for every image: an array alone has no subject."""
        net = load_vlm(self, workspace)
        return _split(net, self, fill_prompt(self.prompt or net.default_prompt, "", "", self.avoid))

    def start(self, workspace: Workspace) -> Work:
        net = load_vlm(self, workspace)
        ahead = tagging_work(self, _split(net, self, ""), workspace)
        return replace(ahead, load=partial(prepare_record, net, self, workspace))


def _split(net: LoadedVlm, vlm: Vlm, text: str) -> PreparedPredictor:
    return PreparedPredictor(
        partial(prepare_inputs, net, vlm, text),
        partial(caption_images, AdaptiveBatcher(vlm.inference_batch_size, vlm.signature), net, vlm),
    )


def prepare_record(net: LoadedVlm, vlm: Vlm, workspace: Workspace, record: Record) -> dict[str, torch.Tensor] | Drop:
    """The record's image and what is asked about it, as the model wants them, or why there is no image."""
    image = read_image(vlm.label, workspace, record)
    if isinstance(image, Drop):
        return image
    return prepare_inputs(
        net, vlm, fill_prompt(vlm.prompt or net.default_prompt, record.subject, record.class_name, vlm.avoid), image
    )


def fill_prompt(prompt: str, token: str, class_name: str, avoid: Iterable[str]) -> str:
    """The prompt with its names filled in; [parts] with an empty name in them are left out.

    What to avoid belongs to a subject, whose token stands for it: without one, {absorbed} is empty.
    """
    absorbed = ", ".join(format_tag(word.strip()) for word in avoid) if token else ""
    values = {"{token}": token, "{class}": class_name, "{absorbed}": absorbed}

    def part(found: re.Match[str]) -> str:
        used = [value for name, value in values.items() if name in found[1]]
        return found[0] if not used else found[1] if all(used) else ""

    text = re.sub(r"\[([^\[\]]*)\]", part, prompt.strip())
    return re.sub(r"\{(?:token|class|absorbed)\}", lambda found: values[found[0]], text)


def load_vlm(vlm: Vlm, workspace: Workspace) -> LoadedVlm:
    """Load the model; PrepError when it does not answer to images, or needs a program of its own."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as TYPES

    found = find_model_folder(vlm.model, workspace)
    config = read_json(found, CONFIG)
    kind = escape_control(str(config.get("model_type", "unknown")))
    if kind not in TYPES:
        own = ", with a program of its own, which prep does not run" if "auto_map" in config else ""
        raise PrepError(
            f"{found.folder} holds a model of another kind (type {kind}{own}).",
            "vlm takes models that transformers knows to answer to an image and a text, such as Qwen-VL or LLaVA.",
        )
    if kind in CAPTIONERS:
        raise PrepError(
            f"{found.folder} holds a captioner that answers no questions (type {kind}).",
            f"Use it so: prep tag {CAPTIONERS[kind]} --model {vlm.model}",
        )
    device = torch_device(vlm.device)
    # On a GPU the type in which the weights were published, on a CPU what it is fast with.
    stored = vlm.precision == "auto" and device.type != "cpu"
    processor = load_processor(found)
    model = load_model(
        found, transformers.AutoModelForImageTextToText, device, "auto" if stored else pick_dtype(vlm.precision, device)
    )
    ends = model.generation_config.eos_token_id
    ends = processor.tokenizer.eos_token_id if ends is None else ends
    net = LoadedVlm(
        model,
        processor,
        # A copy: answers are read while a thread prepares the next questions.
        TokenFormat(
            copy.deepcopy(processor.tokenizer),
            tuple(ends) if isinstance(ends, list) else (ends,),
            vlm.signature,
            answer_text,
        ),
        TASK_PROMPTS.get(kind, CHAT_PROMPT),
    )
    load_from_folder(
        found,
        lambda: prepare_inputs(net, vlm, fill_prompt(vlm.prompt or net.default_prompt, "a", "b", vlm.avoid), _blank()),
    )
    return net


def _blank() -> np.ndarray:
    import numpy as np

    return np.full((64, 64, 3), 128, np.uint8)


def load_processor(found: LocalModel) -> Any:
    """The model's own preparation of images and texts; PrepError when there is none for images."""
    from transformers import AutoProcessor

    check_vocabulary(found)
    processor = load_from_folder(
        found, lambda: AutoProcessor.from_pretrained(found.folder, local_files_only=True, trust_remote_code=False)
    )
    if not hasattr(processor, "image_processor"):
        raise PrepError(f"{found.folder} lacks preprocessor_config.json.", repair_hint(found))
    return processor


def caption_images(
    pieces: AdaptiveBatcher, net: LoadedVlm, vlm: Vlm, ready: list[dict[str, torch.Tensor]]
) -> list[list[Annotation]]:
    """A caption of each image.

    Only inputs of the same form go together, so nothing is padded and a batch says what each image alone says.
    """
    forms: dict[Any, list[int]] = {}
    for place, one in enumerate(ready):
        forms.setdefault(tuple((name, tuple(value.shape)) for name, value in one.items()), []).append(place)
    said: dict[int, PredictedCaption] = {}
    for places in forms.values():
        answers = pieces.run(partial(generate_answers, net, vlm), [ready[place] for place in places])
        said |= dict(zip(places, answers, strict=True))
    return vlm.caption_annotations([said[place] for place in range(len(ready))])


def prepare_inputs(net: LoadedVlm, vlm: Vlm, text: str, image: np.ndarray) -> dict[str, torch.Tensor]:
    """One image and what is asked about it, as the model wants them."""
    from PIL import Image

    written = chat_text(net.processor, vlm.system_prompt, text)
    bos = net.processor.tokenizer.bos_token
    # A template that writes the first token itself must not get a second one.
    once = {"add_special_tokens": False} if bos and written.startswith(bos) else {}
    made = net.processor(text=[written], images=[Image.fromarray(image)], return_tensors="pt", **once)
    return dict(made)


def chat_text(processor: Any, system: str, text: str) -> str:
    """The conversation in the model's own form, with exactly one place for the image.

    Templates want a message's parts in a list or, as JoyCaption's, one text; a model without a template
    gets the text alone. PrepError when neither gives the image its place.
    """
    from jinja2 import TemplateError

    if not processor.chat_template:
        return text
    mark = getattr(processor, "image_token", None)
    parts = [{"type": "image"}, {"type": "text", "text": text}]
    for said, told in ((parts, [{"type": "text", "text": system}]), (text, system), (f"{mark}\n{text}", system)):
        messages = [{"role": "system", "content": told}] if system else []
        try:
            written = str(
                processor.apply_chat_template(
                    [*messages, {"role": "user", "content": said}], add_generation_prompt=True, tokenize=False
                )
            )
        except (TemplateError, TypeError):
            continue
        if text in written and (mark is None or written.count(mark) == 1):
            return written
    raise PrepError(
        "The model's chat template has no place for an image, or none for this prompt.",
        "Take another revision of the model, or leave --system away.",
    )


def generate_answers(net: LoadedVlm, vlm: Vlm, ready: Sequence[dict[str, torch.Tensor]]) -> list[PredictedCaption]:
    """What the model answers to inputs of one form, all at once."""
    import torch

    given = {name: torch.cat([one[name] for one in ready]).to(net.model.device) for name in ready[0]}
    given = {k: v.to(net.model.dtype) if v.is_floating_point() else v for k, v in given.items()}
    logs: list[torch.Tensor] = []

    def watch(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Keep each step's best score instead of all: with 150,000 tokens those would fill the memory."""
        logs.append(scores.float().log_softmax(-1).max(-1).values)
        return scores

    with torch.inference_mode():
        tokens = net.model.generate(**given, generation_config=greedy_settings(net, vlm), logits_processor=[watch])
    start = 1 if net.model.config.is_encoder_decoder else given["input_ids"].shape[1]
    return decode_captions(net.token_format, tokens[:, start:], torch.stack(logs, 1).cpu())


def greedy_settings(net: LoadedVlm, vlm: Vlm) -> Any:
    """The model's own settings for writing, but for chance, beams and length."""
    settings = copy.deepcopy(net.model.generation_config)
    settings.max_length = settings.temperature = settings.top_p = settings.top_k = settings.min_p = None
    settings.do_sample, settings.num_beams, settings.early_stopping = False, 1, False
    settings.max_new_tokens = vlm.max_tokens
    settings.eos_token_id = list(net.token_format.end_tokens)
    return settings


def answer_text(text: str) -> str:
    """The model's answer in one line, without what it thought first."""
    before, end, rest = text.rpartition("</think>")
    return one_line(rest if end else before + rest.partition("<think>")[0])
