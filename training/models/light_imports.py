"""Imports diffusers' and transformers' models without the libraries that they would import besides."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

# What they import where it is installed: for adapters, quantization, losses of detectors, and tables. Loading the parts
# of a base model needs none of them, and importing them takes a third of the time until the first denoising step.
_UNUSED = ("bitsandbytes", "pandas", "peft", "scipy", "sklearn")


@contextmanager
def light_imports() -> Iterator[None]:
    """While it lasts, libraries that are imported find none of those; those that are imported already stay.

    What diffusers and transformers find missing once, they take as missing as long as the process runs: so it is for
    commands that use neither adapters of peft nor quantization.
    """
    hidden = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: Python raises ModuleNotFoundError
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def look_for_libraries() -> None:
    """Let diffusers and transformers look for libraries now; to be called before anything else imports them.

    They find none of those above in a process that runs one command only, else what is installed.
    """
    with light_imports() if os.environ.get("PREP_PROCESS") == str(os.getpid()) else nullcontext():
        import diffusers.utils
        import transformers.utils

        _ = (diffusers.utils, transformers.utils)


def import_models() -> None:
    """Import the classes of a base model's parts, without the libraries that were not found before."""
    from diffusers.utils import is_bitsandbytes_available, is_peft_available

    found = is_bitsandbytes_available() or is_peft_available()
    with nullcontext() if found else light_imports():
        import diffusers
        import transformers

        _ = (diffusers.AutoencoderKL, diffusers.UNet2DConditionModel, transformers.CLIPTextModel)
