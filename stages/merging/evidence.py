"""How strongly a tag is tied to a subject: how much more often the subject has it than other images."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Evidence:
    """How much more often a subject's images have a tag than other images."""

    expected: float  # share of the subject's images, shrunk towards the prior
    prior: float  # share of other images
    pmi: float  # pointwise mutual information, in bits
    z: float  # in standard errors


@dataclass(frozen=True, slots=True)
class TagFrequency:
    """How many of some images have a tag."""

    count: float
    images: float


def evidence_with_prior(subject: TagFrequency, prior: float, strength: float) -> Evidence:
    """The evidence when a share `prior` of all images has the tag; `strength` is how many images that counts for.

    x = k + a p0, y = N - k + a (1 - p0), p = x / (N + a); PMI = log2(p / p0), and z is the difference of the log odds
    ln(x/y) and logit(p0) over its standard error: log odds with an informative prior (Monroe, Colaresi and Quinn,
    "Fightin' Words", 2008), with the prior taken as known.
    """
    x, y = _smoothed(subject, prior, strength)
    expected = x / (subject.images + strength)
    z = (math.log(x / y) - math.log(prior / (1 - prior))) / math.sqrt(1 / x + 1 / y)
    return Evidence(expected, prior, math.log2(expected / prior), z)


def evidence_with_regularization(
    subject: TagFrequency, other: TagFrequency, prior: float | None, strength: float
) -> Evidence:
    """The evidence when regularization images were counted too: `other`.

    Their log odds and its variance take the place of the known prior. Without a prior, counts are smoothed
    towards their own share, with half an image added on either side.
    """
    base = (other.count + 0.5) / (other.images + 1) if prior is None else prior
    x, y = _smoothed(subject, base, strength)
    if prior is None:
        other_x, other_y = other.count + 0.5, other.images - other.count + 0.5
    else:
        other_x, other_y = _smoothed(other, base, strength)
    expected, elsewhere = x / (x + y), other_x / (other_x + other_y)
    error = math.sqrt(1 / x + 1 / y + 1 / other_x + 1 / other_y)
    z = (math.log(x / y) - math.log(other_x / other_y)) / error
    return Evidence(expected, elsewhere, math.log2(expected / elsewhere), z)


def _smoothed(count: TagFrequency, prior: float, strength: float) -> tuple[float, float]:
    """How many images have the tag and how many do not, with `strength` images added at the prior's share."""
    return count.count + strength * prior, count.images - count.count + strength * (1 - prior)
