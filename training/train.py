"""prep train: a LoRA on a Stable Diffusion 1.x base, from the data set that build laid out."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Model, Whole, opt
from pipeline.workspace import write_atomic
from training.adapters import inject, parameters, prove, settle
from training.base import find_base
from training.captions import Captions
from training.checkpoint import Checkpoint, open_base, published_name
from training.export import data_sha256, kohya_keys, write_tensors
from training.families.sd1 import SD1
from training.folders import Layout, read_folders
from training.latents import Latents, View
from training.loop import Job, Row, train
from training.metadata import describe, provenance
from training.noise import Noise
from training.samples import Data, Sample, check_samples, read_samples

if TYPE_CHECKING:
    import torch

    from pipeline.manifest import Manifest
    from pipeline.record import Record
    from pipeline.stage import Report, Step
    from pipeline.workspace import Workspace
    from training.families.family import Condition, Family

log = logging.getLogger(__name__)

_PARTS = ("unet", "text_encoder")
_AT_ONCE = 16  # captions that are encoded together


@dataclass(frozen=True, kw_only=True)
class Train(Data, Captions, Noise, Whole):
    """Train a LoRA on the data set and write it to runs/."""

    name: ClassVar[str] = "train"
    reads: ClassVar[str] = "build"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "diffusers", "transformers", "peft")

    base: str = opt(
        "mini",
        "Base model, Stable Diffusion 1.x: a hub id, a diffusers folder, a single .safetensors or .ckpt file, "
        "or 'mini', a tiny untrained one for trying the line out.",
        key=False,  # its weights' hash is part of the key instead
    )
    output: str = opt("run", "Name of the run: its folder in runs/ and its file.")
    steps: int = opt(0, "Training steps; 0 takes those of the epochs.", low=0)
    epochs: int = opt(10, "Times that the data set, with its repeats, is gone through.", low=1)
    batch: int = opt(1, "Pictures per step.", low=1)
    learning_rate: float = opt(1e-4, "Learning rate of the U-Net; 0 leaves it as it is.", low=0)
    text_encoder_rate: float = opt(0.0, "Learning rate of the text encoder; 0 leaves it as it is.", low=0)
    rank: int = opt(16, "Rank of the adapters: their size.", low=1, high=1024)
    alpha: float = opt(0.0, "The adapters' strength is alpha divided by rank; 0 makes it 1.", low=0)
    scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine"] = opt(
        "constant", "How the learning rate goes on."
    )
    warmup: float = opt(0.0, "Share of the steps in which the learning rate climbs, 0 to 1.", low=0, high=1)
    seed: int = opt(42, "Seed of all that is random.", low=0)
    precision: Literal["auto", "fp32", "bf16"] = opt(
        "auto", "Number format of the base while training; auto is bf16 on a GPU that has it, else fp32."
    )
    save_precision: Literal["fp16", "bf16", "fp32"] = opt("fp16", "Number format of the file.")
    device: Literal["auto", "cpu", "cuda"] = opt("auto", "Where to train; auto takes a GPU if there is one.", key=False)

    def check(self) -> None:
        for part in (Data, Captions, Noise):
            part.check(self)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}", self.output) or self.output.endswith((".", " ")):
            raise PrepError(
                f"train: output {self.output!r} cannot be a file name everywhere.",
                "Use letters, digits, '-' and '_', for example: --output smith-v1",
            )
        if not self.learning_rate and not self.text_encoder_rate:
            raise PrepError("train: both learning rates are 0.", "Give at least one, for example: --learning-rate 1e-4")
        if self.warmup and self.scheduler == "constant":
            raise PrepError("train: the constant scheduler has no warm-up.", "Use: --scheduler constant_with_warmup")

    def models(self, workspace: Workspace) -> tuple[Model, ...]:
        base = find_base(self.base, workspace)
        return (Model(base.name, base.sha256, base.revision),)

    def own_source(self, workspace: Workspace, report: Report) -> tuple[list[Record], Step] | None:
        """The folders that --data names, instead of what build laid out."""
        if not self.data:
            return None
        reg = workspace.given(self.reg_data) if self.reg_data else None
        found = read_folders(Layout(workspace.given(self.data), reg), workspace, report)
        for remark in found.remarks:
            log.warning(remark)
        return found.records, found.step

    def missing(self, manifest: Manifest, workspace: Workspace) -> str:
        return "" if self.file(workspace).is_file() else f"{self.file(workspace).name} is"

    def run(self, manifest: Manifest, workspace: Workspace, report: Report) -> Iterator[list[Record]]:
        # Before torch is imported: its threads spin while they wait for each other, and beside another
        # busy program that made a step on 2 cores nine times as long (105 s against 12 s for 12 steps).
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        family = SD1()
        samples = [sample for sample in read_samples(manifest) if self.prior_loss_weight or not sample.reg]
        check_samples(samples, family.factor)
        checkpoint = open_base(find_base(self.base, workspace), workspace.cache)
        family.recognise(checkpoint)
        run = _Run(self, family, checkpoint, samples)
        self._save(run, run.train(workspace, report), manifest, workspace)
        yield from manifest.batches()

    def file(self, workspace: Workspace) -> Path:
        return workspace.runs / self.output / f"{self.output}.safetensors"

    def rates(self) -> dict[str, float]:
        """The learning rate of each part that learns."""
        return {
            part: rate for part, rate in zip(_PARTS, (self.learning_rate, self.text_encoder_rate), strict=True) if rate
        }

    def half(self, device: torch.device) -> bool:
        """Whether the base is held in bfloat16."""
        import torch

        if self.precision != "auto":
            return self.precision == "bf16"
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)

    def _save(self, run: _Run, trained: _Trained, manifest: Manifest, workspace: Workspace) -> None:
        """Write adapter, metrics and summary; the adapter gets its name when it is proven to load."""
        family, checkpoint = run.family, run.checkpoint
        objective = family.objective(checkpoint, self)
        tensors: dict[str, torch.Tensor] = {}
        for part, weights in trained.weights.items():
            named = {published_name(part, name): value for name, value in weights.items()}
            tensors |= kohya_keys(named, family.prefixes[part], self.alpha or self.rank)
        about = describe(self, run.samples, trained.rows, (family, checkpoint))
        about |= provenance(manifest, objective, data_sha256(tensors))
        file = self.file(workspace)
        draft = file.with_name(f"{self.output}.unproven.safetensors")
        write_tensors(draft, tensors, about)
        prove(draft, family, checkpoint, trained.answers, trained.dtype)
        write_atomic(file.with_name("metrics.parquet"), _metrics(trained.rows))
        summary = {"train": dataclasses.asdict(self), "too_long": trained.too_long, "metadata": about}
        write_atomic(file.with_name("run.json"), json.dumps(summary, indent=2, ensure_ascii=False).encode())
        draft.replace(file)


@dataclass(frozen=True)
class _Trained:
    """What a run leaves behind."""

    rows: list[Row]
    weights: dict[str, dict[str, torch.Tensor]]  # part to its adapters, in the type they are saved in
    answers: dict[str, torch.Tensor]  # part to its answer to the family's probe
    dtype: torch.dtype  # in which the base was held
    too_long: list[str]  # ids of the records whose captions' ends were cut off


@dataclass(frozen=True)
class _Run:
    """One training run, from the base model to the trained adapters."""

    config: Train
    family: Family
    checkpoint: Checkpoint
    samples: list[Sample]

    def train(self, workspace: Workspace, report: Report) -> _Trained:
        import torch

        config, family, checkpoint = self.config, self.family, self.checkpoint
        device = _device(config.device)
        dtype = torch.bfloat16 if config.half(device) else torch.float32
        latents = Latents(workspace, family, checkpoint.base.vae)
        read, normalise = latents.reader(), family.normaliser(checkpoint)
        latents.prepare([View(sample) for sample in self.samples], lambda: checkpoint.load("vae").to(device), report)
        tokenizer, encoder = checkpoint.tokenizer(), checkpoint.load("text_encoder").to(device)
        modules = {"unet": checkpoint.load("unet").to(device, dtype), "text_encoder": encoder}
        for part in config.rates():
            inject(modules[part], family.targets[part], (config.rank, config.alpha or config.rank), config.seed)
        encode = _live(family, tokenizer, encoder)
        if not config.text_encoder_rate:
            encode = _cached(encode, sorted({sample.caption for sample in self.samples}))
            del modules["text_encoder"], encoder
        job = Job(
            config=config,
            family=family,
            objective=family.objective(checkpoint, config).to(device),
            unet=modules["unet"],
            samples=self.samples,
            latent=lambda sample: normalise(read(View(sample))),
            condition=lambda captions: {name: value.to(device) for name, value in encode(captions).items()},
            groups=[(list(parameters(modules[part]).values()), rate) for part, rate in config.rates().items()],
            device=device,
        )
        rows = train(job, report)
        saved = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[config.save_precision]
        trained = {part: modules[part].to("cpu").float() for part in config.rates()}
        return _Trained(
            rows=rows,
            weights={part: settle(module, saved) for part, module in trained.items()},
            answers={part: family.probe(part, module, tokenizer) for part, module in trained.items()},
            dtype=dtype,
            too_long=[sample.id for sample in self.samples if family.too_long(tokenizer, sample.caption)],
        )


def _device(wanted: str) -> torch.device:
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise PrepError("There is no GPU that torch can use.", "Train on the processor: --device cpu")
    return torch.device("cuda" if wanted == "auto" and torch.cuda.is_available() else wanted.replace("auto", "cpu"))


def _live(family: Family, tokenizer: Any, encoder: Any) -> Callable[[list[str]], Condition]:
    return lambda captions: family.encode_text(tokenizer, encoder, captions)


def _cached(encode: Callable[[list[str]], Condition], captions: list[str]) -> Callable[[list[str]], Condition]:
    """Encode every caption once; after that the encoder is no longer needed."""
    import torch

    table: dict[str, Condition] = {}
    with torch.no_grad():
        for at in range(0, len(captions), _AT_ONCE):
            some = captions[at : at + _AT_ONCE]
            found = encode(some)
            for k, caption in enumerate(some):
                table[caption] = {name: value[k].cpu() for name, value in found.items()}

    def look_up(wanted: list[str]) -> Condition:
        rows = [table[caption] for caption in wanted]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    return look_up


def _metrics(rows: list[Row]) -> bytes:
    """The rows as a Parquet file: what the run saw and how it went."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=_schema()), sink)
    return bytes(sink.getvalue())


def _schema() -> Any:
    import pyarrow as pa

    kinds = {"int": pa.int32(), "float": pa.float64(), "float | None": pa.float64(), "list[str]": pa.list_(pa.string())}
    return pa.schema([(field.name, kinds[str(field.type)]) for field in dataclasses.fields(Row)])
