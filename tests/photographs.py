"""Real photographs, from the wheels of scikit-image, scikit-learn and matplotlib."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

FILES = {
    "sklearn": ("datasets/images", "china.jpg", "flower.jpg"),
    "matplotlib": ("mpl-data/sample_data", "grace_hopper.jpg"),
    "skimage": (
        "data",
        "astronaut.png",
        "coffee.png",
        "chelsea.png",
        "rocket.jpg",
        "hubble_deep_field.jpg",
        "camera.png",
    ),
}


def paths() -> list[Path]:
    found = []
    for package, (folder, *names) in FILES.items():
        root = Path(find_spec(package).origin).parent / folder
        found += [root / name for name in names]
    return found


def path(name: str) -> Path:
    return next(path for path in paths() if path.name == name)


def photograph(name: str, size: tuple[int, int] | None = None) -> Image.Image:
    image = Image.open(path(name)).convert("RGB")
    return image.resize(size, Image.Resampling.LANCZOS) if size else image


def encoded(image: Image.Image, format: str, **options) -> bytes:
    made = io.BytesIO()
    image.save(made, format, **options)
    return made.getvalue()
