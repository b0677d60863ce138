"""Training speed on a GPU compared with diffusers' own step: python benchmarks/train_gpu.py [--json FILE] [--tiny].

Models of full size with random weights: Stable Diffusion 1.x at 512 and XL at 1024 pixels, LoRA of rank 16 on
attention, AdamW, bfloat16 on a GPU. Contenders, on inputs of the same sizes:
  shipped  the step of diffusers' train_text_to_image_lora scripts: the VAE and the text encoders run in every
           step, adapters in float32 under autocast, the loss is get_text after every step;
  matched  the same with cached latents and text embeddings, as prep has them;
  prep     prep's own step: prefetched batches, and the fastest execution mode, chosen by measuring.
Contenders are interleaved over several rounds, after a warm-up that is not counted; a row has the median and the
quartiles of the rounds. Nothing is downloaded. --tiny runs narrow models at 64 pixels on any machine, as a test.
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
from training.models.loader import BaseModel
from training.models.parts import empty_part, quiet
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
# Goals: images per second on one H200, and speedup over the other two.
RATE_GOALS = {("sd1", 1): 60.0, ("sdxl", 1): 12.0, ("sdxl", 4): 17.4}
# Errors that other versions of torch or diffusers may raise; the other contenders are measured all the same.
FAULTS = (RuntimeError, ImportError, AttributeError, TypeError, ValueError, KeyError, NotImplementedError, PrepError)
SPEEDUP_GOALS = {"shipped": {1: 3.0, 4: 1.8, 8: 1.8}, "matched": {1: 2.0, 4: 1.3, 8: 1.3}}


@dataclass(frozen=True)
class BenchmarkSetting:
    """A model, batch size, resolution and device to measure."""

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
        """A frozen part of the model with random weights."""
        with torch.device(self.device):
            return empty_part(self.folder, name).to(dtype).eval().requires_grad_(False)

    def latents(self, count: int) -> torch.Tensor:
        stream = torch.Generator().manual_seed(7)
        return torch.randn(count, 4, self.side // 8, self.side // 8, generator=stream)


@dataclass
class Contender:
    """A training step to measure, with its peak memory and its execution mode."""

    step: Callable[[], None]
    gib: float = 0.0
    note: str = ""


def diffusers_step(setting: BenchmarkSetting, cached: bool) -> Contender:
    """The training step of diffusers' train_text_to_image_lora scripts, without their logging."""
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
    scheduler = DDPMScheduler.from_config(DDPMScheduler.load_config(setting.folder / "scheduler"))
    get_latents, get_text = inputs(setting, cached)

    def step() -> None:
        latents = get_latents()
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (len(latents),), device=latents.device).long()
        noisy = scheduler.add_noise(latents, noise, timesteps)
        text, added = get_text()
        prediction = unet(noisy, timesteps, text, added_cond_kwargs=added, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(prediction.float(), noise.float())
        accelerator.gather(loss.repeat(len(latents))).mean().item()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.detach().item()

    return Contender(step)


def inputs(setting: BenchmarkSetting, cached: bool):
    """Functions for the latents and the text conditioning of a diffusers step, cached or computed on each call."""
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
    def get_latents():
        prediction = vae.encode(pixels.to(vae.dtype)).latent_dist.sample() * vae.config.scaling_factor
        return prediction.to(setting.dtype)

    @torch.no_grad()
    def get_text():
        encoded = family.encode_text(tokenizers, texts, [CAPTION] * setting.batch, text_settings(CaptionOptions()))
        conditioning = {"text_embeds": encoded["pooled"], "time_ids": sizes} if "pooled" in encoded else None
        return encoded["text"].to(setting.dtype), conditioning

    if not cached:
        return get_latents, get_text
    latents, encoded = get_latents(), get_text()
    return (lambda: latents), (lambda: encoded)


def prep_step(setting: BenchmarkSetting) -> Contender:
    """prep's step, with prefetched batches."""
    job = make_job(setting)
    train_state = make_train_state(job.param_groups, job.config.optimizer, DistributedContext())
    batches = ([SampleRef(sample, round_number) for sample in job.samples] for round_number in itertools.count())
    steps = prefetch(batches, lambda refs: make_batch(job, refs), setting.device)
    runner = StepRunner(job, 1_000_000)
    contender = Contender(lambda: None)
    number = itertools.count()

    def step() -> None:
        _, batch = next(steps)
        at = next(number)
        planned = PlannedStep(at + 1, 1_000_000, 1, False, [batch.samples])
        train_step(job, train_state, planned, [batch], runner)
        contender.note = runner.mode.title

    contender.step = step
    return contender


def make_job(setting: BenchmarkSetting) -> TrainingJob:
    """A job for prep's loop, with random latents and text embeddings in place of the caches."""
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
    conditioning = {"text": torch.randn(setting.batch, 77, width)}
    if setting.model == "sdxl":
        conditioning["pooled"] = torch.randn(setting.batch, unet.config.projection_class_embeddings_input_dim - 6 * 256)

    return TrainingJob(
        config=config,
        family=family,
        objective=family.objective(checkpoint, config.objective).to(setting.device),
        denoiser=unet,
        samples=samples,
        latent=lambda draw: (latents[int(draw.image.pixel_sha256)][None], torch.full((1, *latents.shape[1:]), 0.1)),
        mask=lambda draw: None,
        prompt=lambda draw: draw.image.caption,
        encode_prompts=lambda prompts: {name: to_device(value, setting.device) for name, value in conditioning.items()},
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
    """A contender after its warm-up, with its peak memory."""
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
    """Mean over the steps that fit in `seconds`, at least two."""
    wait(device)
    began, steps = time.perf_counter(), 0
    while steps < 2 or time.perf_counter() - began < seconds:
        contender.step()
        steps += 1
        if steps % 8 == 0:
            wait(device)  # otherwise kernels queue up far ahead of the GPU
    wait(device)
    return (time.perf_counter() - began) / steps


def check_syncs(contender: Contender, device: torch.device) -> str:
    """Synchronizations of a step without logging: "0", or the error of the first one."""
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
    """TFLOP of a forward and backward pass for one image, multiplications and additions counted separately."""
    one = make_job(replace(setting, batch=1))
    batch = make_batch(one, [SampleRef(one.samples[0], 0)])
    with FlopCounterMode(display=False) as counter:
        error, _ = image_losses(one, batch)
        error.sum().backward()
    return counter.get_total_flops() / 1e12


def attempt(what: str, work: Callable[[], T]) -> T | None:
    """The result of `work`; None, with a printed reason, when it does not run on this machine."""
    try:
        return work()
    except FAULTS as error:
        print(f"{what} does not run here: {type(error).__name__}: {str(error).strip()[:300]}", flush=True)
        return None


def compare(setting: BenchmarkSetting, rounds: int, seconds: float) -> list[dict]:
    """A row for each contender that runs on this machine."""
    label = f"{setting.model} {setting.batch}"
    work = attempt(f"{label}: counting FLOP", lambda: flops(setting)) or 0.0
    contenders: dict[str, Contender] = {}
    # prep first, so that the others cannot use up its memory
    for name in ("prep", *(name for name in CONTENDERS if name != "prep")):
        if contender := attempt(f"{label}: {name}", lambda name=name: build_contender(name, setting)):
            contenders[name] = contender
    durations: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(rounds):
        for name in sorted(contenders, reverse=bool(round_number % 2)):
            elapsed = attempt(
                f"{label}: {name}", lambda name=name: seconds_a_step(contenders[name], seconds, setting.device)
            )
            if elapsed:
                durations[name].append(elapsed)
    measured = {name: contenders[name] for name in CONTENDERS if len(durations.get(name, ())) > 1}
    return rows_of(setting, work, measured, durations)


def rows_of(
    setting: BenchmarkSetting, work: float, contenders: dict[str, Contender], durations: dict[str, list[float]]
) -> list[dict]:
    """A row for each contender with at least two measurements; `work` is the result of `flops`."""
    rows = []
    for name, contender in contenders.items():
        low, middle, high = statistics.quantiles(durations[name], n=4, method="inclusive")
        rate = setting.batch / middle
        rows.append(
            {
                "model": setting.model,
                "batch_size": setting.batch,
                "contender": name,
                "images_per_second": rate,
                "quartiles": [setting.batch / high, setting.batch / low],
                "tflops": rate * work,
                "gib": contender.gib,
                "syncs": attempt("counting syncs", partial(check_syncs, contender, setting.device))
                if name == "prep"
                else "",
                "mode": contender.note,
                "speedup": statistics.median(durations[name]) / statistics.median(durations["prep"])
                if "prep" in contenders
                else None,
            }
        )
    return rows


def format_row(row: dict, goals: bool) -> str:
    """A row of the table, with its goal."""
    low, high = row["quartiles"]
    text = (
        f"{row['model']:<5} {row['batch_size']:>5}  {row['contender']:<8}{row['images_per_second']:>8.2f}  "
        f"{f'({low:.2f} to {high:.2f})':<20}{row['tflops']:>7.1f}{row['gib']:>7.2f}"
    )
    if row["contender"] != "prep" and row["speedup"] is None:
        return text
    if row["contender"] != "prep":
        goal = goals and SPEEDUP_GOALS[row["contender"]].get(row["batch_size"])
        return f"{text}   prep is {row['speedup']:.2f}x as fast" + (f"; goal: {goal}" if goal else "")
    goal = goals and RATE_GOALS.get((row["model"], row["batch_size"]))
    return f"{text}   {row['mode']}; syncs: {row['syncs']}" + (f"; goal: {goal:g}" if goal else "")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="sd1,sdxl", help="comma-separated  [default: sd1,sdxl]")
    parser.add_argument("--batch-sizes", default="1,4,8", help="comma-separated  [default: 1,4,8]")
    parser.add_argument("--rounds", type=int, default=5, help="measurements per contender  [default: 5]")
    parser.add_argument("--seconds", type=float, default=1.5, help="per measurement  [default: 1.5]")
    parser.add_argument("--minutes", type=float, default=7.0, help="start no further batch size after  [default: 7]")
    parser.add_argument(
        "--compile", choices=("auto", "on", "off"), default="auto", help="torch.compile  [default: auto]"
    )
    parser.add_argument("--tiny", action="store_true", help="narrow models at 64 pixels")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    quiet()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.tiny:
        parser.error("torch finds no GPU; --tiny runs narrow models on the CPU")
    began, rows = time.monotonic(), []
    card = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{card}, torch {torch.__version__}{', narrow models: a test, not a measurement' if options.tiny else ''}")
    print(f"{'model':<5} batch  {'contender':<8}  images/s (quartiles)  TFLOP/s  GiB")
    with tempfile.TemporaryDirectory() as home:
        for model, batch in itertools.product(options.models.split(","), map(int, options.batch_sizes.split(","))):
            if time.monotonic() - began > 60 * options.minutes:
                print(f"{model} {batch}: skipped, out of time")
                continue
            folder = Path(home) / model
            write_config_folder(folder, NARROW[model] if options.tiny else FAMILIES[model].single_file.architecture)
            setting = BenchmarkSetting(
                model, batch, 64 if options.tiny else SIDES[model], device, folder, options.compile
            )
            for row in compare(setting, options.rounds, options.seconds):
                rows.append(row)
                print(format_row(row, not options.tiny), flush=True)
            if options.json:
                figures = {"device": card, "torch": torch.__version__, "tiny": options.tiny, "rows": rows}
                options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
