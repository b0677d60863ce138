"""How telling a tag is of a subject: how much more often it is said of it than of other images."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Evidence:
    """How much more often a tag is said of a subject than of other images."""

    expected: float  # share of the subject's images, shrunk towards the prior
    prior: float  # share of other images
    pmi: float  # bits
    z: float


def evidence_with_prior(count: float, images: float, prior: float, strength: float) -> Evidence:
    """The evidence that `count` of `images` are, where a share of `prior` of all images are.

    x = k + a p0, y = N - k + a (1 - p0), p = x / (N + a); PMI = log2(p / p0), and z is the difference of the log odds
    ln(x/y) and logit(p0) over its standard error: log-odds with an informative prior (Monroe, Colaresi and Quinn,
    Fightin' Words, 2008), the prior taken as known.
    """
    x, y = _smoothed(count, images, prior, strength)
    expected = x / (images + strength)
    z = (math.log(x / y) - math.log(prior / (1 - prior))) / math.sqrt(1 / x + 1 / y)
    return Evidence(expected, prior, math.log2(expected / prior), z)


def evidence_with_regularization(
    counted: tuple[float, float], beside: tuple[float, float], prior: float | None, strength: float
) -> Evidence:
    """The same with a regularization set: `counted` and `beside` are count and images of the subject and of it.

    Its own log odds and their variance take the place of a prior that is known; without any other count it
    is shrunk towards its own share, half an image more on either side.
    """
    least = (beside[0] + 0.5) / (beside[1] + 1)
    base = least if prior is None else prior
    x, y = _smoothed(*counted, base, strength)
    xr, yr = (beside[0] + 0.5, beside[1] - beside[0] + 0.5) if prior is None else _smoothed(*beside, base, strength)
    expected, known = x / (x + y), xr / (xr + yr)
    z = (math.log(x / y) - math.log(xr / yr)) / math.sqrt(1 / x + 1 / y + 1 / xr + 1 / yr)
    return Evidence(expected, known, math.log2(expected / known), z)


def _smoothed(count: float, images: float, prior: float, strength: float) -> tuple[float, float]:
    return count + strength * prior, images - count + strength * (1 - prior)
