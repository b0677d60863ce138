"""k-diffusion's results for a fixed denoiser, kept in sampler_reference.json; run as a script, this makes them again.

pip install --no-deps --target /somewhere k-diffusion==0.1.1.post1 torchdiffeq==0.2.5
python -m tests.sampler_reference /somewhere
"""

from __future__ import annotations

import functools
import json
import sys
import types
from pathlib import Path

import torch

KEPT = Path(__file__).with_suffix(".json")
SEEDS = (7, 8)
SHAPE = (4, 4, 4)
# Title of the sampler in WebUI -> function of k-diffusion, and its fixed arguments.
FUNCTIONS = {
    "Euler": ("sample_euler", {}),
    "Euler a": ("sample_euler_ancestral", {"eta": 1.0}),
    "LMS": ("sample_lms", {}),
    "Heun": ("sample_heun", {}),
    "DPM2": ("sample_dpm_2", {}),
    "DPM2 a": ("sample_dpm_2_ancestral", {"eta": 1.0}),
    "DPM++ 2S a": ("sample_dpmpp_2s_ancestral", {"eta": 1.0}),
    "DPM++ 2M": ("sample_dpmpp_2m", {}),
    "DPM++ SDE": ("sample_dpmpp_sde", {"eta": 1.0}),
    "DPM++ 2M SDE": ("sample_dpmpp_2m_sde", {"eta": 1.0}),
    "DPM++ 2M SDE Heun": ("sample_dpmpp_2m_sde", {"eta": 1.0, "solver_type": "heun"}),
    "DPM++ 3M SDE": ("sample_dpmpp_3m_sde", {"eta": 1.0}),
    "DPM fast": ("sample_dpm_fast", {"eta": 1.0}),
    "DPM adaptive": ("sample_dpm_adaptive", {"eta": 1.0}),
}
STEPS = (7, 20)


def toy(x, sigma):
    """A denoiser with some curvature."""
    return 0.8 * torch.tanh(x / (1 + sigma)) + 0.3 * x / (1 + sigma**2)


class Draws:
    """Noise of an image each from its own generator of PyTorch's on the CPU."""

    def __init__(self):
        self.generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]

    def __call__(self, *_):
        return torch.stack([torch.randn(SHAPE, generator=generator) for generator in self.generators])


def scaled_linear_sigmas():
    """Those of Stable Diffusion's training, as k-diffusion computes them."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0).float()
    return ((1 - alphas) / alphas) ** 0.5


def schedules(k_diffusion):
    """WebUI's schedules that k-diffusion has, of 20 steps."""
    sigmas = scaled_linear_sigmas()
    low, high = float(sigmas[0]), float(sigmas[-1])
    own = k_diffusion.external.DiscreteSchedule(sigmas, quantize=False)
    return {
        "Uniform": own.get_sigmas(20),
        "Karras": k_diffusion.sampling.get_sigmas_karras(20, low, high),
        "Exponential": k_diffusion.sampling.get_sigmas_exponential(20, low, high),
        "Polyexponential": k_diffusion.sampling.get_sigmas_polyexponential(20, low, high),
    }


def sampled(k_diffusion, title, sigmas):
    """What a sampler of k-diffusion makes of the noise of `Draws` by way of some sigmas."""
    name, arguments = FUNCTIONS[title]
    function = functools.partial(getattr(k_diffusion.sampling, name), disable=True, **arguments)
    draws = Draws()
    x = draws() * sigmas[0]
    if "eta" in arguments:
        brownian = k_diffusion.sampling.BrownianTreeNoiseSampler(x, sigmas[-2], sigmas[0], seed=list(SEEDS))
        function = functools.partial(function, noise_sampler=brownian if "SDE" in title else draws)

    def model(x, sigma, **_):
        return toy(x, sigma.view(-1, 1, 1, 1))

    if title == "DPM fast":
        return function(model, x, float(sigmas[-2]), float(sigmas[0]), len(sigmas) - 1)
    if title == "DPM adaptive":
        return function(model, x, float(sigmas[-2]), float(sigmas[0]))
    return function(model, x, sigmas)


def main(folder):
    """Write the reference with the k-diffusion in a folder; its package itself imports what sampling does not need."""
    sys.path.insert(0, folder)
    package = types.ModuleType("k_diffusion")
    package.__path__ = [str(Path(folder, "k_diffusion"))]
    sys.modules["k_diffusion"] = package
    import k_diffusion.external
    import k_diffusion.sampling

    found = {"schedules": {name: sigmas.tolist() for name, sigmas in schedules(k_diffusion).items()}, "samplers": {}}
    low, high = float(scaled_linear_sigmas()[0]), float(scaled_linear_sigmas()[-1])
    for steps in STEPS:
        sigmas = k_diffusion.sampling.get_sigmas_karras(steps, low, high)
        for title in FUNCTIONS:
            values = sampled(k_diffusion, title, sigmas)
            found["samplers"][f"{title} {steps}"] = [round(value, 6) for value in values[:, :, 1].flatten().tolist()]
    KEPT.write_text(json.dumps(found, indent=None).replace('], "', '],\n"') + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
