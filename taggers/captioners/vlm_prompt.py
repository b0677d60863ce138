"""What a vision-language model is asked: prompts with placeholders, chat templates, and answers as one line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pipeline.errors import PrepError
from pipeline.tag_text import format_tag
from taggers.captioners.generate import one_line

CHAT_PROMPT = (
    "Describe this image in one or two plain sentences: who or what it shows, pose and expression, clothing, "
    "surroundings, light, and what kind of image it is.[ Do not mention: {absorbed}.] "
    "Answer with the description alone."
)
# Models that take tasks instead of questions.
TASK_PROMPTS = {"florence2": "<MORE_DETAILED_CAPTION>"}
PLACEHOLDERS = ("token", "class", "absorbed")


def check_prompt(prompt: str) -> None:
    """PrepError for an unknown placeholder."""
    for name in re.findall(r"\{(.*?)\}", prompt):
        if name not in PLACEHOLDERS:
            raise PrepError(f"vlm: the prompt has {{{name}}}.", "Known placeholders: {token}, {class}, {absorbed}.")


def fill_prompt(prompt: str, token: str, class_name: str, avoid: Iterable[str]) -> str:
    """The prompt with its placeholders filled in; a [part] with an empty placeholder is left out.

    The words to avoid belong to a subject: without a token, {absorbed} is empty.
    """
    absorbed = ", ".join(format_tag(word.strip()) for word in avoid) if token else ""
    values = {"{token}": token, "{class}": class_name, "{absorbed}": absorbed}

    def part(match: re.Match[str]) -> str:
        used = [value for name, value in values.items() if name in match[1]]
        return match[0] if not used else match[1] if all(used) else ""

    text = re.sub(r"\[([^\[\]]*)\]", part, prompt.strip())
    return re.sub(r"\{(?:token|class|absorbed)\}", lambda match: values[match[0]], text)


def chat_text(processor: Any, system_prompt: str, text: str) -> str:
    """The conversation in the model's chat template, with exactly one place for the image.

    Templates take a message's content as a list or, as JoyCaption's, as one text; a model without a template gets
    the text alone. PrepError when neither has a place for the image.
    """
    from jinja2 import TemplateError

    if not processor.chat_template:
        return text
    mark = getattr(processor, "image_token", None)
    user_parts = [{"type": "image"}, {"type": "text", "text": text}]
    system_parts = [{"type": "text", "text": system_prompt}]
    contents = ((user_parts, system_parts), (text, system_prompt), (f"{mark}\n{text}", system_prompt))
    for user, system in contents:
        messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system_prompt else []
        messages.append({"role": "user", "content": user})
        try:
            chat = str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        except (TemplateError, TypeError):
            continue
        if text in chat and (mark is None or chat.count(mark) == 1):
            return chat
    raise PrepError(
        "The model's chat template has no place for an image, or none for this prompt.",
        "Use another revision of the model, or leave out --system-prompt.",
    )


def answer_text(text: str) -> str:
    """The model's answer in one line, without its reasoning in <think>."""
    before, end, rest = text.rpartition("</think>")
    return one_line(rest if end else before + rest.partition("<think>")[0])
