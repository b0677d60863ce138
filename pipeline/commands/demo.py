"""prep demo: a workspace with the drawn photographs and the small models that come with prep."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.commands.generate import GenerateOptions, GenerateRequest, generate
from pipeline.commands.generated_table import FILE, read_table
from pipeline.commands.generated_writer import GeneratedImage
from pipeline.commands.init import InitOptions, init
from pipeline.commands.regularization import recipe_base
from pipeline.errors import PrepError
from pipeline.recipe import GENERATED
from pipeline.registry import read_recipe, tables
from pipeline.report.generated_page import FILE as PAGE
from pipeline.report.generated_page import write_generated_page
from pipeline.shell_words import quoted
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace, write_atomic

TOKEN = "zmith"  # a rare token, which prep check does not warn about: CLIP splits it into two
_PROMPTS_FILE = "prompts.txt"
# The trigger alone, with what the photographs do not show together, and the class, which must not change.
_PROMPTS = (
    TOKEN,
    f"{TOKEN}, kitchen, reading",
    f"{TOKEN}, forest, night, snow",
    f"{TOKEN}, red shirt, street",
    "man",
    "woman",
)
# What the trained adapter is shown with: places, weights, and a prompt without its subject.
_GENERATED = (
    f"{TOKEN}, beach, smile <lora:demo:1>",
    f"{TOKEN}, (forest:1.2), [day:night:0.5] <lora:demo:1>",
    f"{TOKEN}, street, red shirt <lora:demo:0.6>",
    "woman, kitchen <lora:demo:1>",
)
_SIDE = 64  # pixels: what the embedded base model was made for
_TRAINING = {"method": "locon", "rank": 8, "steps": 300, "batch_size": 4, "learning_rate": 2e-3}
_ABSORBED = ("apron", "beard", "facial hair", "mustache", "blue shirt", "brown hair", "short hair")


def create_demo(folder: Path) -> Workspace:
    """The demo's workspace, new or as an earlier demo left it; images and models stay in prep's installation."""
    if (folder / "prep.toml").is_file():
        return Workspace(folder.resolve())
    if folder.exists() and any(folder.iterdir()):
        raise PrepError(f"{folder} is not empty.", "Name another folder: prep demo FOLDER")
    samples = Path(str(importlib.resources.files("sample_data")))
    options: dict[str, dict[str, Any]] = {
        "crop": {"resolution": _SIDE, "focus": "center"},
        "augment": {"flip": True},
        "tag.wd14": {"model": str(samples / "models" / "mini-tagger")},
        "merge": {"absorb": list(_ABSORBED)},
        "train": {
            "base": str(samples / "models" / "mini-diffusion"),
            "sample_prompts": _PROMPTS_FILE,
            "output": "demo",
        }
        | _TRAINING,
    }
    new = InitOptions(((TOKEN, "man", str(samples / "smith")),), (("man", str(samples / "man")),), options)
    workspace = init(folder, new, tables(("wd14",)))
    write_atomic(workspace.root / _PROMPTS_FILE, "".join(f"{text} --l 4\n" for text in _PROMPTS).encode())
    return workspace


def generate_images(workspace: Workspace, report: ProgressFn) -> Iterator[GeneratedImage]:
    """Generate images with the adapter that the demo has trained, unless an earlier demo has; and their page."""
    folder = workspace.root / GENERATED
    if (folder / FILE).is_file():
        return
    options = GenerateOptions.from_values({"steps": 20, "cfg_scale": 4.0, "seed": 1})
    request = GenerateRequest(_GENERATED, options, {}, recipe_base=recipe_base(read_recipe(workspace)))
    yield from generate(workspace, request, report)
    write_generated_page(folder, read_table(folder / FILE))


def next_steps(workspace: Workspace) -> Iterator[str]:
    """Where the demo's files are, and the commands that show them."""
    paths = {
        "recipe": workspace.recipe,
        "manifests": workspace.manifest("build").parent,
        "dataset": workspace.dataset,
        "adapter": workspace.runs / "demo" / "demo.safetensors",
        "samples": workspace.runs / "demo" / "samples" / "all.png",
        "images": workspace.root / GENERATED / PAGE,
    }
    yield ""
    yield from (f"{name:<10} {path}" for name, path in paths.items())
    yield ""
    root, again = quoted(workspace.root), quoted(f"{workspace.root}-again")
    yield f"see the images and captions:  prep -C {root} review"
    yield f"as a web page:                prep -C {root} report"
    yield f"the training run:             prep -C {root} report train"
    yield f"rebuild the dataset:          prep rebuild {quoted(workspace.manifest('build'))} {again}"
