"""How emphasis acts on the output of a text encoder: WebUI's emphasis modes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from training.sampling.prompt.chunks import Chunk

# original: outputs times weights, then all scaled so that their mean is what it was; no_norm: without that;
# ignore: brackets without effect; none: brackets are text.
EmphasisMode = Literal["original", "no_norm", "ignore", "none"]

_NO_MEAN = 1e-4  # means below this share of the standard deviation are rounding; CLIP's are about a tenth of it


def emphasized(
    outputs: dict[str, tuple[torch.Tensor, Chunk]], counts: Counter[str], mode: EmphasisMode
) -> dict[str, torch.Tensor]:
    """The outputs (1, 77, width) for one chunk of each text of a schedule, weighted.

    With `original` the mean over all outputs is restored, in which a text counts as often as it occurs; not where the
    outputs have no mean to speak of, as those of encoders whose final layer norm has no bias.
    """
    import torch

    if mode in ("ignore", "none") or all(set(chunk.weights) <= {1.0} for _, chunk in outputs.values()):
        return {text: output for text, (output, _) in outputs.items()}
    weighted = {}
    for text, (output, chunk) in outputs.items():
        factors = torch.tensor(chunk.factors(), device=output.device, dtype=output.dtype)
        weighted[text] = output * factors[None, :, None]
    if mode == "no_norm":
        return weighted
    before = torch.stack([outputs[text][0].mean() * count for text, count in counts.items()]).sum()
    after = torch.stack([weighted[text].mean() * count for text, count in counts.items()]).sum()
    spread = torch.stack([outputs[text][0].std() * count for text, count in counts.items()]).sum()
    if torch.minimum(before.abs(), after.abs()) < _NO_MEAN * spread:
        return weighted  # the ratio of two means of nearly 0 would be any number
    return {text: output * (before / after) for text, output in weighted.items()}
