"""200 mixed photographs, buffer deterministically from real ones in the scikit-image and matplotlib wheels."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

NAMES = (
    ("sklearn/datasets/images", "china.jpg flower.jpg"),
    ("matplotlib/mpl-data/sample_data", "grace_hopper.jpg"),
    ("skimage/data", "astronaut.png coffee.png chelsea.png rocket.jpg motorcycle_left.png ihc.png camera.png"),
    ("skimage/data", "hubble_deep_field.jpg retina.jpg brick.png grass.png gravel.png moon.png coins.png"),
)
MEGAPIXELS = {  # cameras write JPEG; PNG and WebP come from screens, renderers and the web
    "JPEG": (0.3, 0.8, 2.1, 3.1, 5.0, 8.0, 8.3, 12.0, 12.2, 16.0, 24.0, 0.5, 1.3, 2.1, 12.0, 6.0),
    "PNG": (0.3, 1.0, 2.1, 1.0, 3.7, 0.8, 8.3),
    "WEBP": (0.3, 1.0, 2.1, 0.6, 4.0),
}
ASPECTS = (3 / 2, 4 / 3, 2 / 3, 16 / 9, 3 / 4, 1.0, 3 / 2, 9 / 16, 5 / 4, 2.2)
FORMATS = ("JPEG",) * 17 + ("PNG", "PNG", "WEBP")
ORIENTATIONS = (1, 1, 1, 6, 1, 8, 1, 1, 3, 1, 6, 1)  # as cameras write them


def make_corpus(folder: Path, count: int) -> list[Path]:
    """Write the first `count` images into `folder`, 0.3 to 24 megapixels, and return them; existing files are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda k: _one(folder, k), range(count)))


def _one(folder: Path, k: int) -> Path:
    import numpy as np
    from PIL import Image

    kind = FORMATS[k * 7 % len(FORMATS)]
    path = folder / f"{k:03d}.{kind.lower()}"
    if path.is_file():
        return path
    draws = np.random.default_rng(k)
    pixels = MEGAPIXELS[kind][k * 5 % len(MEGAPIXELS[kind])] * 1e6 * draws.uniform(0.9, 1.0)
    aspect = ASPECTS[k * 3 % len(ASPECTS)]
    size = int((pixels * aspect) ** 0.5), int((pixels / aspect) ** 0.5)
    if k % 2:
        size = size[0] // 16 * 16, size[1] // 16 * 16  # half have sizes divisible by 16, as cameras do
    exif = Image.Exif()
    exif[0x0112] = ORIENTATIONS[k % len(ORIENTATIONS)] if kind == "JPEG" else 1
    image = Image.fromarray(_photograph(photographs()[k % len(photographs())], size, draws))
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=90, exif=exif)
    path.with_suffix(".part").write_bytes(buffer.getvalue())
    return path.with_suffix(".part").rename(path)


def _photograph(small, size, draws):
    """A small photograph enlarged: its shapes upscaled, its fine detail tiled on top, and sensor noise.

    Enlarging alone would have no detail to lose, tiling alone no large shapes.
    """
    import numpy as np
    from PIL import Image, ImageFilter

    forms = np.asarray(small.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
    sharp = np.asarray(small).astype(np.int16)
    fine = sharp - np.asarray(small.filter(ImageFilter.GaussianBlur(3))).astype(np.int16)
    height, width, _ = forms.shape
    times = -(-height // fine.shape[0]), -(-width // fine.shape[1])
    tile = np.concatenate([np.concatenate([fine, fine[:, ::-1]], 1), np.concatenate([fine[::-1], fine[::-1, ::-1]], 1)])
    detail = np.tile(tile, (times[0] // 2 + 1, times[1] // 2 + 1, 1))[:height, :width]
    noise = draws.normal(0, 3, (257, 263, 3)).astype(np.int16)
    noise = np.tile(noise, (height // 257 + 1, width // 263 + 1, 1))[:height, :width]
    return (forms + detail * 2 // 3 + noise).clip(0, 255).astype(np.uint8)


@lru_cache(1)
def photographs():
    """The real photographs, as RGB, from their wheels."""
    from importlib.util import find_spec

    from PIL import Image

    found = []
    for folder, names in NAMES:
        package, _, below = folder.partition("/")
        root = Path(find_spec(package).origin).parent / below
        found += [Image.open(root / name).convert("RGB") for name in names.split()]
    return found
