"""DreamBooth: all weights of the denoiser, and by their rates of text encoders, learn; a whole model is published."""

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
from training.methods.method import MethodContext, MethodSpec
from training.models.families import base_parts
from training.models.ldm_checkpoint import to_ldm
from training.models.loader import BaseModel, published_name
from training.optim.optimizers import ParamGroup
from training.precision import dtype_of, uses_bf16

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

log = logging.getLogger(__name__)

FACE, OBJECT = (1500, "1e-6 to 2e-6"), (400, "2e-6")  # usual steps and learning rate
_HIGH = 5  # times the usual rate: what is above it is rare
_ADAM = ("adamw", "adam")  # whose rates these are
_TEXTS = (".json", ".txt", ".model")  # what a tokenizer's folder consists of


@dataclass(frozen=True, kw_only=True)
class DreamBoothMethod(MethodSpec):
    """Full fine-tuning, usually with prior preservation."""

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

    Every part that learns is held in float32. Where the base would be held in bfloat16, the
    denoiser computes in it under autocast: rounded weights would lose steps of 2e-6.
    """

    def __init__(self, materials: MethodContext, default_lr: float) -> None:
        import torch

        self.materials = materials
        self.answers: Tensors = {}  # part to its answer to the family's probe, once it is settled
        for module in materials.modules.values():
            module.float().requires_grad_(True)
        denoiser = materials.modules.get(materials.family.denoiser)
        if denoiser is not None and uses_bf16(materials.config.model, denoiser.device):
            # Each weight is used once: a cache of rounded ones would only be in the way of CUDA graphs.
            rounding = torch.autocast(denoiser.device.type, torch.bfloat16, cache_enabled=False)
            denoiser.forward = rounding(denoiser.forward)
        width = width_of(materials.checkpoint.config(materials.family.denoiser))
        usual = default_learning_rate(default_lr, materials.config.optimizer, width)
        if (highest := max(materials.rates.values())) > _HIGH * usual and materials.config.optimizer.optimizer in _ADAM:
            log.warning("A rate of %g is high for dreambooth of this base; %g is usual.", highest, usual)

    def param_groups(self) -> list[ParamGroup]:
        return [
            ParamGroup(
                part,
                {f"{part}.{name}": weight for name, weight in module.named_parameters()},
                self.materials.rates[part],
            )
            for part, module in self.materials.modules.items()
        ]

    def files(self, dtype: torch.dtype) -> dict[str, Tensors | ArtifactFolder]:
        """A diffusers folder, and for the families that are read so, one file in the original layout."""
        found = self.materials
        parts = {name: part for name, part in base_parts().items() if found.checkpoint.config(name)}
        states = {part: functools.partial(self._state, part, dtype) for part in parts}
        files: dict[str, Tensors | ArtifactFolder] = {
            "": ArtifactFolder(
                {f"{part}/{parts[part].weights}": state for part, state in states.items()}, self._texts(list(parts))
            )
        }
        if layout := found.family.single_file:
            configs = {part: found.checkpoint.config(part) for part in parts}
            whole = {part: state() for part, state in states.items()}
            files[".safetensors"] = to_ldm(layout, whole, configs)
        return files

    def finalize(self, dtype: torch.dtype) -> dict[str, Tensors | ArtifactFolder]:
        found = self.materials
        for part, module in found.modules.items():
            module.__dict__.pop("forward", None)  # the one under autocast
            module.to("cpu").requires_grad_(False)
            for weight in (*module.parameters(), *module.buffers()):
                if weight.is_floating_point():
                    weight.data = weight.data.to(dtype).float()
            self.answers[part] = self._answer(part, module)
            module.to(dtype)  # now exact, and of two numbers' width there is only one set
        return self.files(dtype)

    def metadata(self) -> dict[str, Any]:
        return {"modelspec.architecture": self.materials.family.architecture.removesuffix("/lora")}

    def verify(self, files: dict[str, Path]) -> None:
        """Load folder and file by diffusers: each part that learned must answer as it did, and not as the base does."""
        found = self.materials
        for part, module in found.modules.items():
            loads = {path: self._answer(part, self._written(path).load(part)) for path in files.values()}
            trained = self.answers.get(part, next(iter(loads.values())))
            dtype = module.dtype if part in self.answers else dtype_of(found.config.saving.save_precision)
            plain = self._answer(part, found.checkpoint.load(part).to(dtype).float())
            change = float((trained - plain).abs().max())
            if not change:
                raise PrepError(f"Training leaves the {part} as it was.", "Train for more steps, or at a higher rate.")
            for path, loaded in loads.items():
                error = float((trained - loaded).abs().max())
                if not error <= 1e-6 * float(trained.abs().max()):
                    raise PrepError(
                        f"{path} does not load as it was trained: the {part} is off by {error:.3g} of {change:.3g}.",
                        "Keep it and report this; the versions of diffusers and transformers are in the manifest.",
                    )

    def _answer(self, part: str, module: Any) -> torch.Tensor:
        return self.materials.family.probe_output(part, module, self.materials.tokenizers)

    def _written(self, path: Path) -> BaseModel:
        """What was published as a base model: a folder by itself, a file by the base's configurations."""
        base = replace(self.materials.checkpoint.base, path=path, vae_path=None)
        return BaseModel(base, path if path.is_dir() else self.materials.checkpoint.folder)

    def _state(self, part: str, dtype: torch.dtype) -> Tensors:
        """The weights of a part by published names; of one that did not learn, the base's."""
        module = self.materials.modules.get(part)
        if module is None:
            module = self.materials.checkpoint.load(part).to(dtype)
        seen, state = set[int](), dict[str, "torch.Tensor"]()
        for name, value in module.state_dict().items():
            if value.data_ptr() not in seen:  # T5 knows its embedding by two names
                wide = value.is_floating_point()
                state[published_name(part, name)] = value.to("cpu", dtype) if wide else value.cpu()
            seen.add(value.data_ptr())
        return state

    def _texts(self, parts: list[str]) -> dict[str, bytes]:
        """What a diffusers folder holds beside the weights: the base's, without parts that are not published."""
        found = self.materials
        folder, config = found.checkpoint.folder, found.checkpoint.config
        objective = found.family.objective(found.checkpoint, found.config.objective)
        schedule = config("scheduler")
        if "prediction_type" in schedule or objective.prediction != "flow":
            schedule |= {"prediction_type": objective.prediction}
        if found.config.objective.zero_terminal_snr != "auto":
            schedule |= {"rescale_betas_zero_snr": found.config.objective.zero_terminal_snr == "on"}
        texts = {f"{part}/config.json": _json(config(part)) for part in parts}
        texts["scheduler/scheduler_config.json"] = _json(schedule)
        for tokenizer in folder.glob("tokenizer*"):
            texts |= {f"{tokenizer.name}/{f.name}": f.read_bytes() for f in tokenizer.iterdir() if f.suffix in _TEXTS}
        kept = {name.partition("/")[0] for name in texts}
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        for name, value in index.items():
            if isinstance(value, list) and name not in kept:
                index[name] = [None, None]  # the safety checker is no part of what was trained
        return texts | {"model_index.json": _json(index | {"_class_name": found.family.pipeline})}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode()
