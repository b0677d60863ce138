"""Aspect buckets: the sizes that images are cropped to, and the nearest one of an image."""

from __future__ import annotations

import math
from functools import lru_cache

Size = tuple[int, int]  # width, height


def default_sides(resolution: int, step: int) -> Size:
    """The shortest and the longest bucket side by default: half and twice the resolution, as multiples of `step`."""
    return max(step, resolution // 2 // step * step), -(-resolution * 2 // step) * step


@lru_cache(64)
def buckets(resolution: int, step: int, min_side: int, max_side: int) -> tuple[Size, ...]:
    """Every size whose sides are multiples of `step` from `min_side` to `max_side` and whose area is at most
    `resolution` squared, as large as its shape allows; sorted.

    As kohya's make_bucket_resolutions, without the sizes that fit into another one.
    """
    sizes = set()
    for side in range(min_side, max_side + 1, step):
        other = min(max_side, resolution * resolution // side // step * step)
        if other >= min_side:
            sizes |= {(side, other), (other, side)}
    return tuple(sorted(size for size in sizes if not _is_dominated(size, sizes)))


def _is_dominated(size: Size, sizes: set[Size]) -> bool:
    """Whether the size fits into another one."""
    return any(other != size and other[0] >= size[0] and other[1] >= size[1] for other in sizes)


def nearest_bucket(width: float, height: float, sizes: tuple[Size, ...], max_upscale: float) -> Size | None:
    """The size with the least cost for an image, of those that need no more than `max_upscale`; None without one.

    Cost is |log(image's aspect / size's aspect)|, which is -log of the share of the area that is kept, plus half
    of log(largest area of all sizes / size's area), which is how much smaller the size's sides are on average.
    Both treat tall and wide images alike. Of equal costs the size with the shorter longest side is taken.
    """
    largest_area = max(w * h for w, h in sizes)

    def cost(size: Size) -> tuple[float, int, Size]:
        aspect = math.log((width * size[1]) / (height * size[0]))
        return round(abs(aspect) + math.log(largest_area / (size[0] * size[1])) / 2, 9), max(size), size

    fitting = [size for size in sizes if scale_to(width, height, size) <= max_upscale]
    return min(fitting, key=cost, default=None)


def scale_to(width: float, height: float, size: Size) -> float:
    """The scale at which an image just covers `size`."""
    return max(size[0] / width, size[1] / height)


def split_grid(width: int, height: int, sizes: tuple[Size, ...], max_crops: int) -> Size:
    """Columns and rows to split an image into, at most `max_crops` cells in all.

    Of the grids whose cells fill a bucket without enlargement, those that cut away the least area, within
    0.01; of these the one with the most cells, then the one whose cells are nearest to squares.
    """
    cropped = {}
    for columns in range(1, max_crops + 1):
        for rows in range(1, max_crops // columns + 1):
            cell = width / columns, height / rows
            size = nearest_bucket(*cell, sizes, math.inf if columns == rows == 1 else 1.0)
            if size is not None:
                cropped[columns, rows] = 1 - size[0] * size[1] / (cell[0] * cell[1] * scale_to(*cell, size) ** 2)
    limit = min(cropped.values()) + 0.01

    def preference(grid: Size) -> tuple[int, float, Size]:
        columns, rows = grid
        return -columns * rows, abs(math.log((width / columns) / (height / rows))), grid

    return min((grid for grid, share in cropped.items() if share <= limit), key=preference)
