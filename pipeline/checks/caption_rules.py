"""Rules about single captions: empty, without the trigger, too long, misread by the trainer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pipeline.checks.caption_pages import dictionary_codes
from pipeline.checks.finding import RawFinding
from pipeline.checks.rule_context import CaptionPage, RuleContext
from pipeline.record import UNREADABLE, tagger_of
from pipeline.shell_words import quoted
from pipeline.tag_text import escape_control
from taggers.sidecar.caption_text import are_spaced_tags
from training.sampling.prompt.token_count import count_tokens

if TYPE_CHECKING:
    import numpy as np

_LONGEST_PROMPT = 225  # tokens that prep train can read, in three windows of CLIP


def empty(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Captions without a visible character."""
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(pc.fill_null(page.columns.column("caption"), ""))
    yield RawFinding(
        "error",
        "empty caption",
        "The caption is empty: prep train uses the folder's name instead, kohya's trainer no text at all.",
        context.hint(
            'Write one: prep edit NAME --set "..."; or leave the image out: prep edit NAME --drop',
            "Write it into the caption file, or move the image out of the folder.",
        ),
        page.columns.rows[pc.equal(trimmed, "").to_numpy(zero_copy_only=False)],
    )


def unreadable(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Images with a caption file that was not read: an error where neither another file nor a person describes them."""
    faulty = _with_annotation(page, lambda kind, category, tagger: category == UNREADABLE)
    described = _with_annotation(
        page,
        lambda kind, category, tagger: (
            (kind, category) == ("edit", "set") or (kind in ("tag", "caption") and tagger_of(tagger) == "files")
        ),
    )
    hint = (
        "Why: prep preview tag. Save the file as UTF-8, or name its encoding, such as: "
        'prep tag files --encoding cp1252; or write the caption: prep edit NAME --set "..."'
    )
    rule, message = "caption file unreadable", "A caption file of the image cannot be read"
    rows = page.columns.rows
    yield RawFinding("error", rule, f"{message}: it is trained on without it.", hint, rows[faulty & ~described])
    yield RawFinding(
        "warning", rule, f"{message}: only what else describes it is in the caption.", hint, rows[faulty & described]
    )


def trigger_missing(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Captions of a subject's images that do not name it."""
    subjects, tokens = page.columns.words("subject")
    trained = ~page.columns.equal("role", "reg")
    for number, token in enumerate(tokens):
        if token and context.expects_trigger:
            own = trained & (subjects == number)
            where = f"subject:{_term(token)} NOT role:reg NOT caption:{_term(token)}"
            yield RawFinding(
                "error",
                "trigger missing",
                f"The caption does not contain the trigger {escape_control(token)!r}, so the model learns the subject "
                "with other words.",
                context.hint(
                    f"prep edit --filter {quoted(where)} --add {quoted(token)}",
                    f"Add {escape_control(token)!r} to the caption files, or name the folder by the word they have.",
                ),
                page.columns.rows[own & ~_captions_naming(page, token)],
            )


def subject_in_regularization(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Regularization captions that name a subject."""
    regularization = page.columns.equal("role", "reg")
    for token in sorted(context.subjects) if regularization.any() else ():
        yield RawFinding(
            "error",
            "subject in regularization",
            f"The caption of a regularization image contains the trigger {escape_control(token)!r}: the model learns "
            "that other members of the class are the subject.",
            context.hint(
                f"prep edit --filter {quoted(f'role:reg caption:{_term(token)}')} --remove {quoted(token)}",
                f"Remove {escape_control(token)!r} from the caption files.",
            ),
            page.columns.rows[regularization & _captions_naming(page, token)],
        )


def class_missing(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Regularization captions without their class."""
    regularization = page.columns.equal("role", "reg")
    classes, names = page.columns.words("class_name")
    for number, name in enumerate(names) if regularization.any() else ():
        if name:
            where = f"role:reg class:{_term(name)} NOT caption:{_term(name)}"
            yield RawFinding(
                "warning",
                "class missing",
                f"The caption of a regularization image does not contain its class {escape_control(name)!r}: it "
                "preserves something else.",
                context.hint(
                    f"prep edit --filter {quoted(where)} --add {quoted(name)}",
                    f"Add {escape_control(name)!r} to the caption files.",
                ),
                page.columns.rows[regularization & (classes == number) & ~_captions_naming(page, name)],
            )


def too_long(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Captions of more tokens than the text encoder is given."""
    limit = context.targets.max_tokens
    longer = "" if limit >= _LONGEST_PROMPT else f"; or train with a longer prompt: --max-token-length {limit + 75}"
    yield RawFinding(
        "warning",
        "caption too long",
        f"The caption has more than {limit} CLIP tokens; training cuts off the rest.",
        context.hint(f"prep merge --max-tokens {limit}{longer}", f"Shorten the caption{longer}"),
        page.columns.rows[_longer(page, context)],
    )


def _longer(page: CaptionPage, context: RuleContext) -> np.ndarray:
    """Which captions have too many tokens; brackets that are weights are none."""
    import numpy as np

    longer: np.ndarray = page.parts.tokens > context.targets.max_tokens
    if context.targets.weighted:  # without brackets a caption has no more tokens than with them
        rows = np.flatnonzero(longer)
        captions = page.columns.column("caption").take(rows).to_pylist()
        longer[rows] = [count_tokens(text or "", weighted=True) > context.targets.max_tokens for text in captions]
    return longer


def absorbed_still_there(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Captions with a tag that the trigger absorbs, or with a sentence that says it."""
    subjects, tokens = page.columns.words("subject")
    for number, token in enumerate(tokens):
        own = subjects == number
        for tag in sorted(context.absorbed.get(token, ())):
            named = page.parts.captions_with(page.parts.names(tag), len(page.columns))
            where = f"subject:{_term(token)} caption:{_term(tag)}"
            yield RawFinding(
                "warning",
                "absorbed tag still there",
                f"The caption contains {escape_control(tag)!r}, which {escape_control(token)!r} absorbs: the model "
                "learns the feature with that tag instead of the trigger.",
                "A sentence or an edit added it. To reword: "
                f"prep edit --filter {quoted(where)} --replace {quoted(tag)} NEW",
                page.columns.rows[own & named],
            )


def misread(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Captions of several lines, with invisible characters, or with an unused keep-tokens separator."""
    import pyarrow.compute as pc

    caption = page.columns.column("caption")
    lines = (
        r"[^\s][\r\n]+\s*[^\s]",
        "The caption has more than one line: only the first is trained on, unless wildcards are on.",
    )
    separator = (
        r"\|\|\|",
        "The caption contains '|||', but training does not use it as the keep separator: "
        'set keep_separator = "|||" under [train] in prep.toml.',
    )
    secondary = (
        ";;;",
        "The caption contains ';;;', but training does not use it as the secondary separator: "
        'set secondary_separator = ";;;" under [train] in prep.toml.',
    )
    for pattern, message in (
        *(() if context.targets.wildcards else (lines,)),
        (
            r"[\x{feff}\x{200b}-\x{200f}\x{2028}-\x{202e}\x{2060}\x00-\x08\x0e-\x1f\x7f]",
            "The caption has invisible characters (a byte order mark, zero-width or control characters), which the "
            "model reads as tokens.",
        ),
        *(() if context.targets.keep_separator == "|||" else (separator,)),
        *(() if context.targets.secondary_separator == ";;;" else (secondary,)),
    ):
        matches = pc.fill_null(pc.match_substring_regex(caption, pattern), False).to_numpy(zero_copy_only=False)
        yield RawFinding(
            "warning",
            "caption misread",
            message,
            context.hint('prep edit NAME --set "..."', "Correct the caption file."),
            page.columns.rows[matches],
        )


def spaced_tags(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Captions of folders that prep did not build whose tags are separated by spaces; merge writes commas."""
    import numpy as np
    import pyarrow.compute as pc

    if not context.external:
        return
    caption = pc.fill_null(page.columns.column("caption"), "")
    one_part = pc.match_substring_regex(caption, r"^[^,\r\n]* [^,\r\n]*$").to_numpy(zero_copy_only=False)
    rows = [row for row in np.flatnonzero(one_part).tolist() if are_spaced_tags(caption[row].as_py())]
    yield RawFinding(
        "warning",
        "tags separated by spaces",
        "The caption's tags are separated by spaces, without commas: training takes them as one tag, which is kept, "
        "shuffled or dropped as a whole.",
        "Write commas between them, or let prep do it in a workspace: "
        "prep init DIR --subject TOKEN CLASS FOLDER --tagger files",
        page.columns.rows[rows],
    )


def untidy(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Captions with an empty tag, or the same tag twice."""
    import numpy as np
    import pyarrow.compute as pc

    parts, count = page.parts, len(page.columns)
    several_tags = np.bincount(parts.rows, minlength=count) > 1
    empty_parts = pc.equal(pc.ascii_trim(parts.texts, ","), "").to_numpy(zero_copy_only=False)
    with_empty = parts.captions_with(empty_parts, count)
    pairs = parts.pairs()
    repeated = np.zeros(count, bool)
    repeated[pairs[1:][pairs[1:] == pairs[:-1]] // max(1, len(parts.texts))] = True
    for rows, message in (
        (with_empty & several_tags, "The caption has an empty tag: two commas in a row, or one at an end."),
        (repeated & ~with_empty, "The caption has the same tag twice."),
    ):
        hint = context.hint('prep edit NAME --set "..."', "Correct the caption file.")
        yield RawFinding("note", "untidy caption", message, hint, page.columns.rows[rows])


def _with_annotation(page: CaptionPage, wanted: Callable[[str, str, str], bool]) -> np.ndarray:
    """Which images have an annotation with a wanted kind, category and tagger."""
    import numpy as np
    import pyarrow.compute as pc

    lists = page.columns.column("annotations")
    flat, owners = pc.list_flatten(lists), pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    fields = [dictionary_codes(pc.struct_field(flat, name)) for name in ("kind", "category", "tagger")]
    shape = tuple(len(words) for _, words in fields)
    matching = np.array([wanted(*words) for words in itertools.product(*(words for _, words in fields))], bool)
    mask = np.zeros(len(page.columns), bool)
    if matching.any():
        mask[owners[matching[np.ravel_multi_index([codes for codes, _ in fields], shape)]]] = True
    return mask


def _captions_naming(page: CaptionPage, phrase: str) -> np.ndarray:
    """Which captions contain a phrase as whole words."""
    import pyarrow.compute as pc

    if "," not in phrase:
        return page.parts.captions_with(page.parts.contains(phrase), len(page.columns))
    matches = pc.match_substring(page.columns.column("caption"), phrase, ignore_case=True)  # it spans several parts
    result: np.ndarray = pc.fill_null(matches, False).to_numpy(zero_copy_only=False)
    return result


def _term(text: str) -> str:
    """A text as a filter reads it after a colon."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return text if text.isalnum() else f'"{escaped}"'


RULES: tuple[Callable[[CaptionPage, RuleContext], Iterator[RawFinding]], ...] = (
    empty,
    unreadable,
    trigger_missing,
    subject_in_regularization,
    misread,
    class_missing,
    absorbed_still_there,
    too_long,
    spaced_tags,
    untidy,
)
