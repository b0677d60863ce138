"""Adapters in peft's layers: injected into a frozen module, and exported in the format of files."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.data.sampler import seed_of
from training.methods.block_ranks import RankAlpha, read_block_ranks, size_modules
from training.methods.init_weights import read_init_weights
from training.methods.keys import diffusers_keys, kohya_keys
from training.methods.lora_variants import AdapterType, from_file_tensors, peft_config, to_file_tensors
from training.methods.verification import verify_adapter
from training.models.parts import published_name
from training.optim.optimizers import ParamGroup

if TYPE_CHECKING:
    import torch

    from training.methods.method import MethodContext
    from training.models.family import AdapterTargets, Family
    from training.options.method import MethodOptions

    Tensors = dict[str, torch.Tensor]

log = logging.getLogger(__name__)

_NAME = "default"  # peft's default adapter name
_OUTER = "lora_B.weight"  # the matrix with LoRA+'s higher learning rate


class LoraMethod:
    """Adapters of one type on the layers of each trained part; see TrainingMethod for the members."""

    def __init__(self, context: MethodContext, type: AdapterType, adapts_convolutions: bool) -> None:
        self.context, self.type = context, type
        self.reference_outputs: Tensors = {}  # by part: its output for the family's probe, once finalized
        self.sizes: dict[str, dict[str, RankAlpha]] = {}  # by part and path
        config, family = context.config, context.family
        init_weights = read_init_weights(context.init_from, family, context.checkpoint) if context.init_from else None
        for part, module in context.modules.items():
            if init_weights:
                self.sizes[part] = load_adapters(module, type, init_weights[part])
            else:
                paths = [path for path, _ in module.named_modules()]
                self.sizes[part] = sizes_of(config.method, family.targets[part], paths, adapts_convolutions)
                inject_adapters(module, type, self.sizes[part], config.optimizer.seed, config.method.factor)
            if config.method.network_dropout:
                add_dropout(module, config.method.network_dropout)

    def param_groups(self) -> list[ParamGroup]:
        """One group per part; with LoRA+ two, the second with the higher learning rate."""
        groups = []
        for part, module in self.context.modules.items():
            weights = {f"{part}.{name}": weight for name, weight in parameters(module).items()}
            rate, plus = self.context.rates[part], self.context.config.method.loraplus_lr_ratio
            outer = {name: weight for name, weight in weights.items() if plus != 1 and name.endswith(_OUTER)}
            groups.append(ParamGroup(part, {n: weight for n, weight in weights.items() if n not in outer}, rate))
            if outer:
                groups.append(ParamGroup(f"{part} second matrices", outer, rate * plus))
        return groups

    def files(self, dtype: torch.dtype) -> dict[str, Tensors]:
        return self._named(
            {
                part: export_tensors(module, self.type, self.sizes[part], self._alphas(part), dtype)
                for part, module in self.context.modules.items()
            }
        )

    def finalize(self, dtype: torch.dtype) -> dict[str, Tensors]:
        family, tensors = self.context.family, dict[str, "dict[str, Tensors]"]()
        for part, module in self.context.modules.items():
            module.to("cpu").float()
            tensors[part] = finalize(module, self.type, self.sizes[part], self._alphas(part), dtype)
            self.reference_outputs[part] = family.probe_output(part, module, self.context.tokenizers)
        return self._named(tensors)

    def _alphas(self, part: str) -> dict[str, float]:
        return file_alphas(self.type, self.sizes[part], self._diffusers_named())

    def _diffusers_named(self) -> bool:
        return diffusers_named(self.context.config.method, self.context.family, self.type)

    def _named(self, adapters: dict[str, dict[str, Tensors]]) -> dict[str, Tensors]:
        """The file with the adapters of all parts, under kohya's or diffusers' names."""
        family, tensors = self.context.family, dict[str, "torch.Tensor"]()
        diffusers = self._diffusers_named()
        for part, found in adapters.items():
            named = {published_name(part, path): adapter for path, adapter in found.items()}
            tensors |= diffusers_keys(named, part) if diffusers else kohya_keys(named, partial(family.key, part))
        return {".safetensors": tensors}

    def metadata(self) -> dict[str, Any]:
        options = self.context.config.method
        sizes = [size for sizes in self.sizes.values() for size in sizes.values()]
        most = max(sizes, key=sizes.count)
        args = dict(self.type.network_args)
        if options.conv_rank:
            args |= {"conv_dim": str(options.conv_rank), "conv_alpha": f"{options.conv_alpha or options.conv_rank:g}"}
        if options.factor:
            args["factor"] = str(options.factor)
        found = {
            "ss_network_module": self.type.network,
            "ss_network_dim": most.rank,
            "ss_network_alpha": most.alpha,
            "ss_network_dropout": options.network_dropout,
            "ss_network_args": args,
        }
        return {name: value for name, value in found.items() if value}

    def verify(self, files: dict[str, Path]) -> None:
        found = self.context
        answers = {part: self.reference_outputs.get(part) for part in found.modules}
        verify_adapter(files[".safetensors"], found.family, found.checkpoint, answers, found.dtype)


def diffusers_named(options: MethodOptions, family: Family, type: AdapterType) -> bool:
    """Whether the file has diffusers' names; types that diffusers does not read have none."""
    named = options.lora_key_format == "diffusers" or (options.lora_key_format == "auto" and not family.kohya)
    return named and type.in_diffusers


def sizes_of(
    options: MethodOptions, targets: AdapterTargets, paths: list[str], adapts_convolutions: bool
) -> dict[str, RankAlpha]:
    """The size of the adapter of each layer of a part that gets one, by path."""
    shares = {block: rank / options.rank for block, rank in read_block_ranks(options.block_ranks).items()}
    sizes = size_modules(
        matching(paths, targets.linear), RankAlpha(options.rank, options.alpha or options.rank), shares
    )
    if options.conv_rank:
        conv = RankAlpha(options.conv_rank, options.conv_alpha or options.conv_rank)
        return sizes | size_modules(matching(paths, targets.conv), conv, shares)
    if adapts_convolutions:
        conv = RankAlpha(options.rank, options.conv_alpha or options.alpha or options.rank)
        return sizes | size_modules(matching(paths, targets.conv), conv, shares)
    return sizes


def matching(paths: Iterable[str], pattern: str) -> list[str]:
    """The paths that a pattern matches from end to end."""
    return [path for path in paths if re.fullmatch(pattern, path)]


def inject_adapters(module: Any, type: AdapterType, sizes: dict[str, RankAlpha], seed: int, factor: int) -> None:
    """Put new adapters into a module: only they are trained, and they change nothing yet.

    Each weight is drawn from its own random generator.
    """
    import torch

    _put_layers(module, type, sizes, factor)
    for path, weights in by_module(parameters(module)).items():
        base = module.get_submodule(path).base_layer.weight
        for end, weight in weights.items():
            if weight.is_meta:  # a model without weights, for a memory estimate
                continue
            generator = torch.Generator().manual_seed(seed_of(seed, "adapter", f"{path}.{end}"))
            weight.data.copy_(type.initializers[end](weight.shape, base, generator))


def load_adapters(module: Any, type: AdapterType, adapters: dict[str, Tensors]) -> dict[str, RankAlpha]:
    """Put adapters of an earlier training, with kohya's names, into a module; their sizes by path."""
    _put_layers(module, type, dict.fromkeys(adapters, RankAlpha(1, 1.0)), 0)
    sizes = {}
    for path, adapter in adapters.items():
        layer = module.get_submodule(path)
        weights, sizes[path] = from_file_tensors(type, adapter)
        for end in type.names:
            _replace(layer, end, weights.get(end))
        layer.scaling[_NAME] = sizes[path].alpha / sizes[path].rank
    return sizes


def _put_layers(module: Any, type: AdapterType, sizes: dict[str, RankAlpha], factor: int) -> None:
    """Replace layers with peft's, of which only the adapters are trained.

    Adapters have the module's own dtype where the type allows it: in float32 next to bfloat16 each would cast its
    input and output, a fifth of all operations of a step.
    """
    import torch
    from peft import inject_adapter_in_model

    dtype = torch.float32 if type.fp32 else next(module.parameters()).dtype
    module.requires_grad_(False)
    inject_adapter_in_model(peft_config(type, sizes, factor), module, _NAME)
    for weight in parameters(module).values():
        weight.data = weight.data.to(dtype)
        weight.requires_grad_(True)


def add_dropout(module: Any, share: float) -> None:
    """Add dropout (https://arxiv.org/abs/1207.0580) to a module's adapters wherever gradients are computed.

    There is none in validation, samples and verification, which compute no gradients; the module's mode does not
    matter. It uses torch's global random generator, which every step seeds anew.
    """
    import torch

    class Dropout(torch.nn.Module):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.dropout(given, share, training=torch.is_grad_enabled())

    for layer in module.modules():
        if _NAME in getattr(layer, "lora_dropout", ()):
            layer.lora_dropout[_NAME] = Dropout()


def _replace(layer: Any, end: str, value: torch.Tensor | None) -> None:
    """Replace a layer's adapter weight with one of any rank, or remove it."""
    import torch

    name, _, inner = end.partition(".")
    holder = getattr(layer, name)
    if value is None:
        if _NAME in holder:
            del holder[_NAME]
        return
    like = next(weight for weight in parameters(layer).values())
    weight = torch.nn.Parameter(value.to(like.device, like.dtype))
    if not inner:
        holder[_NAME] = weight
    elif name == "lora_magnitude_vector":
        holder[_NAME].weight = torch.nn.Parameter(weight.data.reshape(holder[_NAME].weight.shape))
    else:
        holder[_NAME].weight = weight


def parameters(module: Any) -> Tensors:
    """The adapters' weights by name: '<path of the module>.lora_A.weight', '<path>.hada_w1_a', ..."""
    return {
        ".".join(piece for piece in name.split(".") if piece != _NAME): weight
        for name, weight in module.named_parameters()
        if _NAME in name.split(".")
    }


def by_module(weights: Tensors) -> dict[str, Tensors]:
    """Weights by name as weights by the end of their name, by the path of their module."""
    found: dict[str, Tensors] = {}
    for name, weight in weights.items():
        path, end = re.fullmatch(r"(.*)\.((?:lora|hada|lokr)_.*)", name).groups()  # type: ignore[union-attr]
        found.setdefault(path, {})[end] = weight
    return found


def export_tensors(
    module: Any, type: AdapterType, sizes: dict[str, RankAlpha], stated: dict[str, float], dtype: torch.dtype
) -> dict[str, Tensors]:
    """A module's adapters by path, with kohya's names and the dtype of the file; the module is not changed.

    `stated` are the alphas to write into the file.
    """
    return {
        path: to_file_tensors(type, {end: w.detach() for end, w in weights.items()}, sizes[path], stated[path], dtype)
        for path, weights in by_module(parameters(module)).items()
    }


def finalize(
    module: Any, type: AdapterType, sizes: dict[str, RankAlpha], stated: dict[str, float], dtype: torch.dtype
) -> dict[str, Tensors]:
    """The same, and round the adapters in place, so that the module in memory is what the file holds.

    PrepError when rounding removes all that an adapter has learned.
    """
    found, idle = export_tensors(module, type, sizes, stated, dtype), 0
    for path, weights in by_module(parameters(module)).items():
        learned = any(bool(weights[end].any()) for end in type.last if end in weights)
        idle += not learned
        rounded, size = from_file_tensors(type, found[path])
        for end, weight in weights.items():
            weight.data.copy_(rounded[end].reshape(weight.shape))
        module.get_submodule(path).scaling[_NAME] = size.alpha / size.rank
        if learned and not any(bool(weights[end].any()) for end in type.last if end in weights):
            raise PrepError(
                f"The changes of {path} are too small for {str(dtype).removeprefix('torch.')}.",
                "Save with more precision: --save-precision fp32",
            )
    if idle:
        log.warning("%d of %d adapters learned nothing: the loss does not depend on their layers.", idle, len(found))
    return found


def file_alphas(type: AdapterType, sizes: dict[str, RankAlpha], diffusers_named: bool) -> dict[str, float]:
    """The alpha in the file for each layer; where it is not the layer's own, the weights are scaled.

    Files with diffusers' names have no alpha, so it is the rank. With kohya's names it is the same for all layers of
    a part: diffusers 0.42 ignores alphas of text encoders and attention that differ from the most frequent one,
    because it looks for them under names that these layers no longer have.
    """
    if diffusers_named:
        return {path: float(size.rank) for path, size in sizes.items()}
    own = {path: size.alpha for path, size in sizes.items()}
    return dict.fromkeys(own, max(own.values())) if type.in_diffusers else own
