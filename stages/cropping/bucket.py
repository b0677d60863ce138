"""The sizes a data set may have, and the one that suits an image best."""

from __future__ import annotations

import math
from functools import lru_cache

Size = tuple[int, int]  # width, height


@lru_cache(64)
def buckets(resolution: int, step: int, min_side: int, max_side: int) -> tuple[Size, ...]:
    """Every size whose sides are multiples of `step` from `low` to `high` and whose area is at most
    `resolution` squared, as large as its shape allows; sorted."""
    sizes = set()
    for side in range(min_side, max_side + 1, step):
        other = min(max_side, resolution * resolution // side // step * step)
        if other >= min_side:
            sizes |= {(side, other), (other, side)}
    return tuple(sorted(size for size in sizes if not _is_dominated(size, sizes)))


def _is_dominated(size: Size, sizes: set[Size]) -> bool:
    """Whether another size is as wide and as high, and more in one."""
    return any(other != size and other[0] >= size[0] and other[1] >= size[1] for other in sizes)


def nearest_bucket(width: float, height: float, sizes: tuple[Size, ...], max_upscale: float) -> Size | None:
    """The size that costs an image least, of those it fills without being enlarged beyond the limit.

    Cost is |log(aspect / size's aspect)|, which is the log of the area cut away, plus the log of
    how much shorter the size's sides are than the largest's, on average: both count what is lost,
    and tall and wide images alike. None: the image is too small for every size.
    """
    most = max(w * h for w, h in sizes)

    def cost(size: Size) -> tuple[float, int, Size]:
        aspect = math.log((width * size[1]) / (height * size[0]))
        return round(abs(aspect) + math.log(most / (size[0] * size[1])) / 2, 9), max(size), size

    fitting = [size for size in sizes if scale_to(width, height, size) <= max_upscale]
    return min(fitting, key=cost, default=None)


def scale_to(width: float, height: float, size: Size) -> float:
    """By how much an image is scaled so that it just covers `size`."""
    return max(size[0] / width, size[1] / height)


def split_grid(width: int, height: int, sizes: tuple[Size, ...], max_crops: int) -> Size:
    """Into how many columns and rows to split an image, at most `most` pieces in all.

    Of the grids whose pieces still fill their size without being enlarged, those that cut least
    area away, within a hundredth; of these the one with the most pieces, then the squarest ones.
    """
    losses = {}
    for columns in range(1, max_crops + 1):
        for rows in range(1, max_crops // columns + 1):
            cell = width / columns, height / rows
            size = nearest_bucket(*cell, sizes, math.inf if columns == rows == 1 else 1.0)
            if size is not None:
                losses[columns, rows] = 1 - size[0] * size[1] / (cell[0] * cell[1] * scale_to(*cell, size) ** 2)
    least = min(losses.values()) + 0.01

    def worth(pieces: Size) -> tuple[int, float, Size]:
        columns, rows = pieces
        return -columns * rows, abs(math.log((width / columns) / (height / rows))), pieces

    return min((pieces for pieces, lost in losses.items() if lost <= least), key=worth)
