"""The table of samplers, by WebUI's titles."""

from __future__ import annotations

from training.sampling.closest_name import find_name, spelling
from training.sampling.samplers.dpm2 import dpm2, dpm2_ancestral
from training.sampling.samplers.dpm_solver import dpm_adaptive, dpm_fast
from training.sampling.samplers.dpmpp import dpmpp_2m, dpmpp_2s_ancestral
from training.sampling.samplers.dpmpp_sde import dpmpp_2m_sde, dpmpp_2m_sde_heun, dpmpp_3m_sde, dpmpp_sde
from training.sampling.samplers.euler import euler, euler_ancestral
from training.sampling.samplers.heun import heun
from training.sampling.samplers.lcm import distilled_levels, lcm
from training.sampling.samplers.linear_multistep import deis, lms
from training.sampling.samplers.plms import plms
from training.sampling.samplers.restart import restart
from training.sampling.samplers.sampler import Sampler
from training.sampling.samplers.timesteps import sigmas_at
from training.sampling.samplers.unipc import unipc, unipc_sigmas
from training.sampling.schedules import AUTOMATIC, SCHEDULES

SAMPLERS: dict[str, Sampler] = {
    "DPM++ 2M": Sampler(
        sample=dpmpp_2m, schedule="Karras", flow=True, aliases=("k_dpmpp_2m", "dpm++", "dpmsolver", "dpmsolver++")
    ),
    "DPM++ SDE": Sampler(
        sample=dpmpp_sde, schedule="Karras", evaluations=2, noise="brownian", eta=1.0, aliases=("k_dpmpp_sde",)
    ),
    "DPM++ 2M SDE": Sampler(
        sample=dpmpp_2m_sde, schedule="Exponential", noise="brownian", eta=1.0, aliases=("k_dpmpp_2m_sde",)
    ),
    "DPM++ 2M SDE Heun": Sampler(
        sample=dpmpp_2m_sde_heun, schedule="Exponential", noise="brownian", eta=1.0, aliases=("k_dpmpp_2m_sde_heun",)
    ),
    "DPM++ 2S a": Sampler(
        sample=dpmpp_2s_ancestral,
        schedule="Karras",
        evaluations=2,
        noise="ancestral",
        eta=1.0,
        seed_delta=True,
        aliases=("k_dpmpp_2s_a",),
    ),
    "DPM++ 3M SDE": Sampler(
        sample=dpmpp_3m_sde,
        schedule="Exponential",
        discard_next_to_last=True,
        noise="brownian",
        eta=1.0,
        aliases=("k_dpmpp_3m_sde",),
    ),
    "Euler a": Sampler(
        sample=euler_ancestral,
        noise="ancestral",
        eta=1.0,
        seed_delta=True,
        aliases=("k_euler_a", "k_euler_ancestral", "euler_ancestral"),
    ),
    "Euler": Sampler(sample=euler, flow=True, aliases=("k_euler", "flow")),
    "LMS": Sampler(sample=lms, flow=True, aliases=("k_lms",)),
    "Heun": Sampler(sample=heun, evaluations=2, flow=True, aliases=("k_heun",)),
    "DPM2": Sampler(
        sample=dpm2,
        schedule="Karras",
        evaluations=2,
        discard_next_to_last=True,
        flow=True,
        aliases=("k_dpm_2", "dpm_2"),
    ),
    "DPM2 a": Sampler(
        sample=dpm2_ancestral,
        schedule="Karras",
        evaluations=2,
        discard_next_to_last=True,
        noise="ancestral",
        eta=1.0,
        seed_delta=True,
        aliases=("k_dpm_2_a", "dpm_2_a"),
    ),
    "DPM fast": Sampler(
        sample=dpm_fast, ends_only=True, noise="ancestral", eta=1.0, seed_delta=True, aliases=("k_dpm_fast",)
    ),
    "DPM adaptive": Sampler(
        sample=dpm_adaptive,
        batches=False,  # its steps obey all of them
        ends_only=True,
        noise="ancestral",
        eta=1.0,
        seed_delta=True,
        aliases=("k_dpm_ad", "k_dpm_adaptive"),
    ),
    "Restart": Sampler(sample=restart, schedule="Karras", evaluations=2, noise="ancestral"),
    "DDIM": Sampler(sample=euler_ancestral, noise="ancestral", eta=0.0, own_sigmas=sigmas_at),
    "PLMS": Sampler(sample=plms, own_sigmas=sigmas_at, aliases=("pndm",)),
    "UniPC": Sampler(sample=unipc, own_sigmas=unipc_sigmas),
    "LCM": Sampler(sample=lcm, noise="ancestral", levels=distilled_levels, aliases=("k_lcm",)),
    # Not one of WebUI's; as in diffusers.
    "DEIS": Sampler(sample=deis, schedule="Karras", flow=True),
}


def find_sampler(name: str) -> tuple[str, str]:
    """The titles of sampler and schedule that a name means, such as 'DPM++ 2M Karras' or k_euler_a.

    Names of before WebUI 1.9 end with the schedule; the others mean the schedule Automatic. PrepError names the
    closest sampler for an unknown one.
    """
    aliases = {title: sampler.aliases for title, sampler in SAMPLERS.items()}
    known = {spelling(one) for title, sampler in SAMPLERS.items() for one in (title, *sampler.aliases)}
    text = spelling(name)
    endings = {spelling(title): title for title in SCHEDULES} | {"ka": "Karras"}
    for ending, schedule in endings.items():
        if text not in known and text.endswith(ending) and text.removesuffix(ending) in known:
            return find_name(text.removesuffix(ending), aliases, "sampler"), schedule
    return find_name(name, aliases, "sampler"), AUTOMATIC
