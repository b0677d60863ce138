"""DreamBooth: full fine-tuning of the denoiser and, where they have a rate, of text encoders; exports a whole model."""

from __future__ import annotations

import functools
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.export.artifacts import ArtifactFolder
from training.methods.default_lr import default_learning_rate, width_of
from training.methods.method import MethodContext, MethodSpec, TrainedFile
from training.models.families import base_parts
from training.models.ldm_checkpoint import to_ldm
from training.models.loader import BaseModel
from training.models.parts import published_name
from training.optim.optimizers import ParamGroup
from training.precision import dtype_of, uses_bf16

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

log = logging.getLogger(__name__)

FACE, OBJECT = (1500, "1e-6 to 2e-6"), (400, "2e-6")  # usual steps and learning rate
_HIGH = 5  # multiple of the default learning rate above which a warning is logged
_ADAM = ("adamw", "adam")  # the optimizers that the default rates are for
_TEXTS = (".json", ".txt", ".model")  # the files of a tokenizer


@dataclass(frozen=True, kw_only=True)
class DreamBoothMethod(MethodSpec):
    """Full fine-tuning, usually with prior preservation."""

    def usage(self, file: TrainedFile) -> dict[str, str]:
        return {
            "WebUI": f"copy it to models/Stable-diffusion, choose it as checkpoint; prompt: {file.prompt}",
            "ComfyUI": f"copy it to models/checkpoints; node: Load Checkpoint; prompt: {file.prompt}",
        }

    def start(self, context: MethodContext) -> DreamBooth:
        return DreamBooth(context, self.default_lr)


DREAMBOOTH = DreamBoothMethod(
    name="dreambooth",
    options=frozenset(("learning_rate", "text_encoder_lr", "text_encoder_2_lr")),
    default_lr=2e-6,  # https://arxiv.org/abs/2208.12242 trains at 1e-6 to 5e-6
    keeps_fp32=True,  # rounded weights would lose steps of 2e-6
    saves_whole_model=True,
)


class DreamBooth:
    """A whole model in training; see TrainingMethod for its members.

    Trained parts are held in float32. Where the base model would be held in bfloat16, the denoiser computes in it
    under autocast: weights in bfloat16 would lose updates of 2e-6.
    """

    def __init__(self, context: MethodContext, default_lr: float) -> None:
        import torch

        self.context = context
        self.reference_outputs: Tensors = {}  # by part: its output for the family's probe, once finalized
        for module in context.modules.values():
            module.float().requires_grad_(True)
        denoiser = context.modules.get(context.family.denoiser)
        if denoiser is not None and uses_bf16(context.config.model, denoiser.device):
            # Each weight is used once per step: a cache of the cast weights would only prevent CUDA graphs.
            autocast = torch.autocast(denoiser.device.type, torch.bfloat16, cache_enabled=False)
            denoiser.forward = autocast(denoiser.forward)
        width = width_of(context.checkpoint.config(context.family.denoiser))
        default = default_learning_rate(default_lr, context.config.optimizer, width)
        if (highest := max(context.rates.values())) > _HIGH * default and context.config.optimizer.optimizer in _ADAM:
            log.warning(
                "A learning rate of %g is high for dreambooth with this base model; usual: %g.", highest, default
            )

    def param_groups(self) -> list[ParamGroup]:
        return [
            ParamGroup(
                part,
                {f"{part}.{name}": weight for name, weight in module.named_parameters()},
                self.context.rates[part],
            )
            for part, module in self.context.modules.items()
        ]

    def files(self, dtype: torch.dtype) -> dict[str, Tensors | ArtifactFolder]:
        """A diffusers folder and, for families that have one, a single file in the original (LDM) layout."""
        context = self.context
        parts = {name: part for name, part in base_parts().items() if context.checkpoint.config(name)}
        states = {part: functools.partial(self._state_dict, part, dtype) for part in parts}
        files: dict[str, Tensors | ArtifactFolder] = {
            "": ArtifactFolder(
                {f"{part}/{parts[part].weights}": state for part, state in states.items()},
                self._config_files(list(parts)),
            )
        }
        if layout := context.family.single_file:
            configs = {part: context.checkpoint.config(part) for part in parts}
            weights = {part: state() for part, state in states.items()}
            files[".safetensors"] = to_ldm(layout, weights, configs)
        return files

    def finalize(self, dtype: torch.dtype) -> dict[str, Tensors | ArtifactFolder]:
        context = self.context
        for part, module in context.modules.items():
            module.__dict__.pop("forward", None)  # which runs under autocast
            module.to("cpu").requires_grad_(False)
            for weight in (*module.parameters(), *module.buffers()):
                if weight.is_floating_point():
                    weight.data = weight.data.to(dtype).float()
            self.reference_outputs[part] = self._probe(part, module)
            module.to(dtype)  # exact now; frees half of the memory
        return self.files(dtype)

    def metadata(self) -> dict[str, Any]:
        return {"modelspec.architecture": self.context.family.architecture.removesuffix("/lora")}

    def verify(self, files: dict[str, Path]) -> None:
        """Load folder and file: each trained part must give its reference output, and not that of the base model."""
        context = self.context
        for part, module in context.modules.items():
            loads = {path: self._probe(part, self._open_file(path).load(part)) for path in files.values()}
            trained = self.reference_outputs.get(part, next(iter(loads.values())))
            dtype = module.dtype if part in self.reference_outputs else dtype_of(context.config.saving.save_precision)
            original = self._probe(part, context.checkpoint.load(part).to(dtype).float())
            change = float((trained - original).abs().max())
            if not change:
                raise PrepError(
                    f"Training did not change the {part}.", "Train for more steps, or at a higher learning rate."
                )
            for path, loaded in loads.items():
                error = float((trained - loaded).abs().max())
                if not error <= 1e-6 * float(trained.abs().max()):
                    raise PrepError(
                        f"{path} does not reproduce the trained {part}: output off by {error:.3g} of {change:.3g}.",
                        "Keep it and report this as a bug; the manifest has the libraries' versions.",
                    )

    def _probe(self, part: str, module: Any) -> torch.Tensor:
        return self.context.family.probe_output(part, module, self.context.tokenizers)

    def _open_file(self, path: Path) -> BaseModel:
        """An exported folder or file as a base model; a file takes its configurations from the base model."""
        base = replace(self.context.checkpoint.base, path=path, vae_path=None)
        return BaseModel(base, path if path.is_dir() else self.context.checkpoint.folder)

    def _state_dict(self, part: str, dtype: torch.dtype) -> Tensors:
        """The weights of a part by their names in files; those of the base model where the part is not trained."""
        module = self.context.modules.get(part)
        if module is None:
            module = self.context.checkpoint.load(part).to(dtype)
        seen, state = set[int](), dict[str, "torch.Tensor"]()
        for name, value in module.state_dict().items():
            if value.data_ptr() not in seen:  # T5 has its embedding under two names
                floating = value.is_floating_point()
                state[published_name(part, name)] = value.to("cpu", dtype) if floating else value.cpu()
            seen.add(value.data_ptr())
        return state

    def _config_files(self, parts: list[str]) -> dict[str, bytes]:
        """All files of a diffusers folder but the weights: the base model's, for the exported parts."""
        context = self.context
        folder, config = context.checkpoint.folder, context.checkpoint.config
        objective = context.family.objective(context.checkpoint, context.config.objective)
        schedule = config("scheduler")
        if "prediction_type" in schedule or objective.prediction != "flow":
            schedule |= {"prediction_type": objective.prediction}
        if context.config.objective.zero_terminal_snr != "auto":
            schedule |= {"rescale_betas_zero_snr": context.config.objective.zero_terminal_snr == "on"}
        texts = {f"{part}/config.json": _json(config(part)) for part in parts}
        texts["scheduler/scheduler_config.json"] = _json(schedule)
        for tokenizer in folder.glob("tokenizer*"):
            texts |= {f"{tokenizer.name}/{f.name}": f.read_bytes() for f in tokenizer.iterdir() if f.suffix in _TEXTS}
        kept = {name.partition("/")[0] for name in texts}
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        for name, value in index.items():
            if isinstance(value, list) and name not in kept:
                index[name] = [None, None]  # the safety checker is not exported
        return texts | {"model_index.json": _json(index | {"_class_name": context.family.pipeline})}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode()
