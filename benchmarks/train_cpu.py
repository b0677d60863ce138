"""Overhead of prep's training loop over a bare PyTorch loop: python benchmarks/train_cpu.py [--rounds 12] [--steps 6].

Two interleaved contenders with the same model, mini-diffusion with LoRA of rank 16 at 256 x 256 pixels, so
that every step has a U-Net's full forward and backward pass:
  bare  batches ready in memory; forward, loss, backward, gradient clipping, fused AdamW, and nothing else;
  prep  the loop of `prep train`: latents, timesteps, noise, prompts, learning rates, loss statistics and the
        training log. Without checkpoints, which are written once per epoch.
Printed are medians and quartiles of CPU seconds per step, and of their ratio over the rounds. CPU seconds,
not wall-clock time, because they do not depend on other load.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

GOAL = 1.03  # prep's time over the bare loop's
SIDE = 256


def make_job(home: Path, steps: int):
    """A run over eight images, ready to train."""
    from tests.training_set import manifest, placed, workspace
    from training.batch import RunConfig
    from training.data.dataset import read_samples
    from training.models.base_model import find_base
    from training.models.families import detect_family
    from training.models.loader import open_base_model
    from training.options.train_options import TrainOptions
    from training.setup import build_job

    work = workspace(home)
    made = manifest(work, [placed(work, number, size=(SIDE, SIDE)) for number in range(8)])
    checkpoint = open_base_model(find_base("mini", work), work.cache)
    config = TrainOptions.from_values({"batch_size": 2, "steps": steps, "device": "cpu"})
    plan = RunConfig(config, detect_family(checkpoint), checkpoint, read_samples(made))
    return build_job(plan, work, lambda done, total: None)


def bare_loop(job, optimizer, batches) -> float:
    """CPU seconds per step of the bare loop."""
    import torch

    weights = optimizer.param_groups[0]["params"]
    texts = [job.encode_prompts(batch.prompts) for batch in batches]
    begin = time.process_time()
    for batch, text in zip(batches, texts, strict=True):
        noisy = job.objective.add_noise(batch.latents, batch.noise, batch.timesteps)
        prediction = job.family.forward(job.denoiser, noisy, batch.timesteps, text, batch.size_conditioning)
        loss = torch.nn.functional.mse_loss(prediction, batch.noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    loss.item()
    return (time.process_time() - begin) / len(batches)


def prep_loop(job, learner, ledger, done: int, steps: int) -> float:
    """CPU seconds per step of prep's loop, from step `done` on."""
    from training.trainer import train

    def enough(step) -> bool:
        return step.number == done + steps

    begin = time.process_time()
    train(job, learner, done, (ledger.on_step_end, enough))
    return (time.process_time() - begin) / steps


def measure(rounds: int, steps: int, home: Path) -> tuple[list[float], list[float]]:
    """CPU seconds per step of the bare loop and of prep's, by round, without the first, which warms up."""
    import torch

    from training.checkpoints.training_log import TrainingLog
    from training.data.sampler import epoch_batches
    from training.distributed import DistributedContext
    from training.optim.train_state import make_train_state
    from training.trainer import make_batch

    job = make_job(home, (rounds + 1) * steps).job
    learner, ledger = (
        make_train_state(job.param_groups, job.config.optimizer, DistributedContext()),
        TrainingLog(home / "ledger", job.prompt, DistributedContext()),
    )
    weights = [weight for group in job.param_groups for weight in group.weights.values()]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.01, fused=True)
    options = job.config.optimizer
    epochs = (epoch_batches(job.samples, epoch, options.batch_size, options.seed) for epoch in itertools.count())
    ready = [make_batch(job, batch) for batch in itertools.islice(itertools.chain.from_iterable(epochs), steps)]
    times_by_round = []
    for round_number in range(rounds + 1):
        contenders = [
            lambda: bare_loop(job, optimizer, ready),
            lambda round_number=round_number: prep_loop(job, learner, ledger, round_number * steps, steps),
        ]
        order = (0, 1) if round_number % 2 else (1, 0)
        times = dict(zip(order, [contenders[k]() for k in order], strict=True))
        times_by_round.append((times[0], times[1]))
    return [pair[0] for pair in times_by_round[1:]], [pair[1] for pair in times_by_round[1:]]


def format_quartiles(values: list[float], form: str) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{format(middle, form)}  ({format(low, form)} to {format(high, form)})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=6, help="steps per round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    import torch

    with tempfile.TemporaryDirectory() as home:
        from tests import training_set  # noqa: F401  # sets torch's threads: ours come after

        torch.set_num_threads(options.threads)
        alone, ours = measure(options.rounds, options.steps, Path(home))
    ratios = [mine / theirs for mine, theirs in zip(ours, alone, strict=True)]
    print(f"bare   {format_quartiles(alone, '.4f')} s per step")
    print(f"prep   {format_quartiles(ours, '.4f')} s per step")
    print(f"ratio  {format_quartiles(ratios, '.3f')}; goal: {GOAL}")
    if options.json:
        figures = {"bare": alone, "prep": ours, "ratio": statistics.median(ratios)}
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
