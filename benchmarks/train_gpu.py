"""How fast prep trains on a GPU, beside diffusers' own step: python benchmarks/train_gpu.py [--json FILE] [--tiny].

The models have their full size and random weights: Stable Diffusion 1.x at 512 and XL at 1024 pixels, LoRA of
rank 16 on attention, AdamW, bfloat16 where there is a GPU. Contenders, all on inputs of the same sizes:
  shipped  the step of diffusers' train_text_to_image_lora scripts: the VAE and the text encoders run in every
           step, adapters in float32 under autocast, the loss is read after every step;
  matched  the same with latents and texts computed once, as prep has them;
  prep     prep's own step with all it does: batches made ahead, and the fastest way found by measuring.
They take turns, round after round, after a warm-up that is not counted; a row holds the median of the rounds
and the quartiles. Nothing is downloaded. --tiny runs narrow models at 64 pixels on any machine, to see that it runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.errors import PrepError, first_line
from tests.narrow import NARROW
from training.batch import PlannedStep, SampleRef, TrainingImage, TrainingJob
from training.data.captions import text_settings
from training.distributed import DistributedContext
from training.methods.adapters import inject_adapters, matching, parameters
from training.methods.block_ranks import RankAlpha
from training.methods.lora import LORA
from training.models.architecture_config import write_config_folder
from training.models.base_model import BaseFiles
from training.models.loader import BaseModel, empty_part, quiet
from training.models.sd1 import SD1
from training.models.sdxl import SDXL
from training.optim.optimizers import ParamGroup
from training.optim.train_state import make_train_state
from training.options.captions import CaptionOptions
from training.options.train_options import TrainOptions
from training.performance.prefetch import prefetch, to_device
from training.performance.step_runner import StepRunner
from training.trainer import image_losses, make_batch, train_step

T = TypeVar("T")
FAMILIES = {"sd1": SD1(), "sdxl": SDXL()}
SIDES = {"sd1": 512, "sdxl": 1024}
ATTENTION = r".*attn[12]\.to_(?:q|k|v|out\.0)"
CAPTION = "a photo of smith in front of a house, with a hat and a coat"
RANK = 16
# Goals of the architecture: images a second on one H200, and times as fast as the other two.
TO_REACH = {("sd1", 1): 60.0, ("sdxl", 1): 12.0, ("sdxl", 4): 17.4}
# What a machine with other versions of torch or diffusers may raise: the rest is measured all the same.
FAULTS = (RuntimeError, ImportError, AttributeError, TypeError, ValueError, KeyError, NotImplementedError, PrepError)
RATIOS = {"shipped": {1: 3.0, 4: 1.8, 8: 1.8}, "matched": {1: 2.0, 4: 1.3, 8: 1.3}}


@dataclass(frozen=True)
class BenchmarkSetting:
    """What is trained, and on what."""

    model: str  # sd1 or sdxl
    batch: int
    side: int  # pixels
    device: torch.device
    folder: Path  # configurations and tokenizers
    compile: str

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def part(self, name: str, dtype: torch.dtype):
        """A part with random weights, frozen."""
        with torch.device(self.device):
            return empty_part(self.folder, name).to(dtype).eval().requires_grad_(False)

    def latents(self, count: int) -> torch.Tensor:
        stream = torch.Generator().manual_seed(7)
        return torch.randn(count, 4, self.side // 8, self.side // 8, generator=stream)


@dataclass
class Contender:
    """One that takes a step whenever it is called, and what it took of the device's memory."""

    step: Callable[[], None]
    gib: float = 0.0
    note: str = ""


def diffusers_step(setting: BenchmarkSetting, cached: bool) -> Contender:
    """The training step of diffusers' scripts for text to image with LoRA, as far as the device sees it."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from peft import LoraConfig

    gpu = setting.device.type == "cuda"
    accelerator = Accelerator(mixed_precision="bf16" if gpu else "no", cpu=not gpu)
    unet = setting.part("unet", setting.dtype)
    targets = ["to_k", "to_q", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=targets))
    weights = [weight for weight in unet.parameters() if weight.requires_grad]
    for weight in weights:
        weight.data = weight.data.float()
    optimizer = torch.optim.AdamW(weights, lr=1e-4)
    unet, optimizer = accelerator.prepare(unet, optimizer)
    noising = DDPMScheduler.from_config(DDPMScheduler.load_config(setting.folder / "scheduler"))
    see, read = inputs(setting, cached)

    def step() -> None:
        latents = see()
        noise = torch.randn_like(latents)
        times = torch.randint(0, 1000, (len(latents),), device=latents.device).long()
        noisy = noising.add_noise(latents, noise, times)
        text, added = read()
        found = unet(noisy, times, text, added_cond_kwargs=added, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(found.float(), noise.float())
        accelerator.gather(loss.repeat(len(latents))).mean().item()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.detach().item()

    return Contender(step)


def inputs(setting: BenchmarkSetting, cached: bool):
    """What a step of diffusers is given: latents, and text with what is told beside it, computed once or every time."""
    family = FAMILIES[setting.model]
    checkpoint = BaseModel(BaseFiles("random", setting.folder, "", ""), setting.folder)
    tokenizers = checkpoint.tokenizers()
    texts = {part: setting.part(part, setting.dtype) for part in family.encoders}
    # The VAE of Stable Diffusion XL overflows in 16 bits: diffusers' script runs it in float32.
    vae = setting.part("vae", torch.float32 if setting.model == "sdxl" else setting.dtype)
    pixels = torch.rand(setting.batch, 3, setting.side, setting.side, device=setting.device) * 2 - 1
    sizes = torch.tensor([[setting.side, setting.side, 0, 0, setting.side, setting.side]] * setting.batch)
    sizes = sizes.to(setting.device, setting.dtype)

    @torch.no_grad()
    def see():
        found = vae.encode(pixels.to(vae.dtype)).latent_dist.sample() * vae.config.scaling_factor
        return found.to(setting.dtype)

    @torch.no_grad()
    def read():
        said = family.encode_text(tokenizers, texts, [CAPTION] * setting.batch, text_settings(CaptionOptions()))
        told = {"text_embeds": said["pooled"], "time_ids": sizes} if "pooled" in said else None
        return said["text"].to(setting.dtype), told

    if not cached:
        return see, read
    latents, said = see(), read()
    return (lambda: latents), (lambda: said)


def prep_step(setting: BenchmarkSetting) -> Contender:
    """prep's step, with the batch after it made ahead."""
    job = make_job(setting)
    learner = make_train_state(job.param_groups, job.config.optimizer, DistributedContext())
    draws = ([SampleRef(sample, turn) for sample in job.samples] for turn in itertools.count())
    steps = prefetch(draws, lambda drawn: make_batch(job, drawn), setting.device)
    runner = StepRunner(job, 1_000_000)
    contender = Contender(lambda: None)
    number = itertools.count()

    def step() -> None:
        _, batch = next(steps)
        at = next(number)
        planned = PlannedStep(at + 1, 1_000_000, 1, False, [batch.samples])
        train_step(job, learner, planned, [batch], runner)
        contender.note = runner.mode.title

    contender.step = step
    return contender


def make_job(setting: BenchmarkSetting) -> TrainingJob:
    """What prep's loop trains with: latents and texts as the caches would give them."""
    family = FAMILIES[setting.model]
    checkpoint = BaseModel(BaseFiles("random", setting.folder, "", ""), setting.folder)
    gpu = setting.device.type == "cuda"
    config = TrainOptions.from_values(
        {
            "batch_size": setting.batch,
            "rank": RANK,
            "device": "cuda" if gpu else "cpu",
            "compile": setting.compile,
        }
    )
    unet = setting.part("unet", setting.dtype)
    paths = matching((path for path, _ in unet.named_modules()), ATTENTION)
    inject_adapters(unet, LORA.type, dict.fromkeys(paths, RankAlpha(RANK, float(RANK))), 1, 0)
    latents = setting.latents(setting.batch)
    samples = [
        TrainingImage(
            f"{k:016x}", "", str(k), setting.side, setting.side, CAPTION, "smith", "man", False, "1_smith man", 1
        )
        for k in range(setting.batch)
    ]
    width = unet.config.cross_attention_dim
    told = {"text": torch.randn(setting.batch, 77, width)}
    if setting.model == "sdxl":
        told["pooled"] = torch.randn(setting.batch, unet.config.projection_class_embeddings_input_dim - 6 * 256)

    return TrainingJob(
        config=config,
        family=family,
        objective=family.objective(checkpoint, config.objective).to(setting.device),
        denoiser=unet,
        samples=samples,
        latent=lambda draw: (latents[int(draw.image.pixel_sha256)][None], torch.full((1, *latents.shape[1:]), 0.1)),
        mask=lambda draw: None,
        prompt=lambda draw: draw.image.caption,
        encode_prompts=lambda prompts: {name: to_device(value, setting.device) for name, value in told.items()},
        param_groups=[ParamGroup("unet", {f"unet.{name}": weight for name, weight in parameters(unet).items()}, 1e-4)],
        device=setting.device,
    )


CONTENDERS = {
    "shipped": lambda setting: diffusers_step(setting, cached=False),
    "matched": lambda setting: diffusers_step(setting, cached=True),
    "prep": prep_step,
}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def build_contender(name: str, setting: BenchmarkSetting) -> Contender:
    """A contender after its warm-up, with the memory that it took at its peak."""
    gpu = setting.device.type == "cuda"
    before = torch.cuda.memory_allocated() if gpu else 0
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    contender = CONTENDERS[name](setting)
    for _ in range(6 if gpu else 1):
        contender.step()
    wait(setting.device)
    contender.gib = (torch.cuda.max_memory_allocated() - before) / 2**30 if gpu else 0.0
    return contender


def seconds_a_step(contender: Contender, seconds: float, device: torch.device) -> float:
    """The mean over as many steps as take about so long, two at least."""
    wait(device)
    began, steps = time.perf_counter(), 0
    while steps < 2 or time.perf_counter() - began < seconds:
        contender.step()
        steps += 1
        if steps % 8 == 0:
            wait(device)  # else all would be launched long before they are done
    wait(device)
    return (time.perf_counter() - began) / steps


def check_syncs(contender: Contender, device: torch.device) -> str:
    """Whether a step that logs nothing makes the processor wait for the GPU."""
    if device.type != "cuda":
        return "not measured"
    try:
        torch.cuda.set_sync_debug_mode("error")
        contender.step()
    except RuntimeError as error:
        return first_line(error)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "0"


def flops(setting: BenchmarkSetting) -> float:
    """10^12 operations of a step's forward and backward pass for one image, multiplication and addition apart."""
    one = make_job(replace(setting, batch=1))
    batch = make_batch(one, [SampleRef(one.samples[0], 0)])
    with FlopCounterMode(display=False) as counter:
        error, _ = image_losses(one, batch)
        error.sum().backward()
    return counter.get_total_flops() / 1e12


def attempt(what: str, work: Callable[[], T]) -> T | None:
    """What the work makes; None, and said, when it does not run on this machine."""
    try:
        return work()
    except FAULTS as error:
        print(f"{what} does not run here: {type(error).__name__}: {str(error).strip()[:300]}", flush=True)
        return None


def compare(setting: BenchmarkSetting, rounds: int, seconds: float) -> list[dict]:
    """A row for each contender that runs here."""
    place = f"{setting.model} {setting.batch}"
    work = attempt(f"{place}: counting operations", lambda: flops(setting)) or 0.0
    contenders: dict[str, Contender] = {}
    for name in ("prep", *(name for name in CONTENDERS if name != "prep")):  # first the one that this is about
        if made := attempt(f"{place}: {name}", lambda name=name: build_contender(name, setting)):
            contenders[name] = made
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in sorted(contenders, reverse=bool(turn % 2)):
            took = attempt(
                f"{place}: {name}", lambda name=name: seconds_a_step(contenders[name], seconds, setting.device)
            )
            if took:
                times[name].append(took)
    whole = {name: contenders[name] for name in CONTENDERS if len(times.get(name, ())) > 1}
    return rows_of(setting, work, whole, times)


def rows_of(
    setting: BenchmarkSetting, work: float, contenders: dict[str, Contender], times: dict[str, list[float]]
) -> list[dict]:
    """A row for each contender that was measured twice at least; `work` as `flops` counts it."""
    rows = []
    for name, contender in contenders.items():
        low, middle, high = statistics.quantiles(times[name], n=4, method="inclusive")
        rate = setting.batch / middle
        rows.append(
            {
                "model": setting.model,
                "batch_size": setting.batch,
                "who": name,
                "images_a_second": rate,
                "quartiles": [setting.batch / high, setting.batch / low],
                "tflops": rate * work,
                "gib": contender.gib,
                "syncs": attempt("counting waits", partial(check_syncs, contender, setting.device))
                if name == "prep"
                else "",
                "way": contender.note,
                "times_as_fast": statistics.median(times[name]) / statistics.median(times["prep"])
                if "prep" in contenders
                else None,
            }
        )
    return rows


def format_row(row: dict, goals: bool) -> str:
    """A row of the table, with what is to be reached."""
    low, high = row["quartiles"]
    text = (
        f"{row['model']:<5} {row['batch']:>5}  {row['who']:<8}{row['images_a_second']:>8.2f}  "
        f"{f'({low:.2f} to {high:.2f})':<20}{row['tflops']:>7.1f}{row['gib']:>7.2f}"
    )
    if row["who"] != "prep" and row["times_as_fast"] is None:
        return text
    if row["who"] != "prep":
        goal = goals and RATIOS[row["who"]].get(row["batch"])
        return f"{text}   prep is {row['times_as_fast']:.2f} times as fast" + (f"; to reach: {goal}" if goal else "")
    goal = goals and TO_REACH.get((row["model"], row["batch"]))
    return f"{text}   {row['way']}; waits: {row['syncs']}" + (f"; to reach: {goal:g}" if goal else "")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="sd1,sdxl")
    parser.add_argument("--batches", default="1,4,8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each turn")
    parser.add_argument("--minutes", type=float, default=7.0, help="after which no further batch is begun")
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--tiny", action="store_true", help="narrow models at 64 pixels")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    quiet()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not given.tiny:
        parser.error("there is no GPU that torch can use; --tiny runs narrow models on the processor")
    began, rows = time.monotonic(), []
    card = torch.cuda.get_device_name() if device.type == "cuda" else "processor"
    print(f"{card}, torch {torch.__version__}{', narrow models: no figure means anything' if given.tiny else ''}")
    print(f"{'model':<5} batch  {'who':<8}  images a second (quartiles)  TFLOP/s  GiB")
    with tempfile.TemporaryDirectory() as home:
        for kind, batch in itertools.product(given.models.split(","), map(int, given.batches.split(","))):
            if time.monotonic() - began > 60 * given.minutes:
                print(f"{kind} {batch}: left out, the time is up")
                continue
            folder = Path(home) / kind
            write_config_folder(folder, NARROW[kind] if given.tiny else FAMILIES[kind].single_file.architecture)
            setting = BenchmarkSetting(kind, batch, 64 if given.tiny else SIDES[kind], device, folder, given.compile)
            for row in compare(setting, given.rounds, given.seconds):
                rows.append(row)
                print(format_row(row, not given.tiny), flush=True)
            if given.json:
                figures = {"device": card, "torch": torch.__version__, "tiny": given.tiny, "rows": rows}
                given.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
