"""Every tagger that needs a model, and what writes a small model folder of its form: for tests that hold for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from taggers.captioners.blip import Blip
from taggers.captioners.git import Git
from taggers.captioners.vlm import Vlm
from taggers.clip.clip import Clip
from taggers.danbooru.deepdanbooru import DeepDanbooru
from taggers.danbooru.wd14 import Wd14
from taggers.tagger import Tagger
from tests.fake import write_wd14
from tests.test_clip import write_clip
from tests.test_deepdanbooru import write_project, write_torch
from tests.test_wd14 import write_cl
from tests.tiny import write_blip, write_blip2, write_git
from tests.tiny_chat import write_florence, write_joy, write_qwen

FORMS: dict[str, tuple[type[Tagger], Callable[[Path], object]]] = {
    "wd14": (Wd14, write_wd14),
    "cl_tagger": (Wd14, write_cl),
    "deepdanbooru": (DeepDanbooru, write_torch),
    "deepdanbooru project": (DeepDanbooru, write_project),
    "blip": (Blip, write_blip),
    "blip2": (Blip, write_blip2),
    "git": (Git, write_git),
    "qwen": (Vlm, write_qwen),
    "joycaption": (Vlm, write_joy),
    "florence": (Vlm, write_florence),
    "clip": (Clip, write_clip),
}
