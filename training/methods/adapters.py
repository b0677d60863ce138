"""Adapters: put into a frozen module, and taken out of it as their file has them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.data.sampler import seed_of
from training.methods.block_ranks import RankAlpha, read_block_ranks, sized
from training.methods.init_weights import read_init_weights
from training.methods.keys import diffusers_keys, kohya_keys
from training.methods.lora_variants import AdapterType, from_file_tensors, peft_config, to_file_tensors
from training.methods.verification import verify_adapter
from training.models.loader import published_name
from training.optim.optimizers import ParamGroup

if TYPE_CHECKING:
    import torch

    from training.methods.method import MethodContext
    from training.models.family import AdapterTargets, Family
    from training.options.method import MethodOptions

    Tensors = dict[str, torch.Tensor]

log = logging.getLogger(__name__)

_NAME = "default"  # peft's name for the only adapter
_OUTER = "lora_B.weight"  # the matrix that LoRA+ speeds up


class LoraMethod:
    """Adapters of one kind on the modules of each part that learns; see Trainee for what each member is."""

    def __init__(self, materials: MethodContext, type: AdapterType, adapts_convolutions: bool) -> None:
        self.materials, self.type = materials, type
        self.answers: Tensors = {}  # part to its answer to the family's probe, once it is settled
        self.sizes: dict[str, dict[str, RankAlpha]] = {}  # by part and path
        config, family = materials.config, materials.family
        former = read_init_weights(materials.init_from, family, materials.checkpoint) if materials.init_from else None
        for part, module in materials.modules.items():
            if former:
                self.sizes[part] = load_adapters(module, type, former[part])
            else:
                paths = [path for path, _ in module.named_modules()]
                self.sizes[part] = sizes_of(config.method, family.targets[part], paths, adapts_convolutions)
                inject_adapters(module, type, self.sizes[part], config.optimizer.seed, config.method.factor)
            if config.method.network_dropout:
                drop_out(module, config.method.network_dropout)

    def param_groups(self) -> list[ParamGroup]:
        """One for each part; with LoRA+ two, of which the second learns faster."""
        groups = []
        for part, module in self.materials.modules.items():
            weights = {f"{part}.{name}": weight for name, weight in parameters(module).items()}
            rate, plus = self.materials.rates[part], self.materials.config.method.loraplus_lr_ratio
            outer = {name: weight for name, weight in weights.items() if plus != 1 and name.endswith(_OUTER)}
            groups.append(ParamGroup(part, {n: weight for n, weight in weights.items() if n not in outer}, rate))
            if outer:
                groups.append(ParamGroup(f"{part} second matrices", outer, rate * plus))
        return groups

    def files(self, dtype: torch.dtype) -> dict[str, Tensors]:
        return self._named(
            {
                part: export_tensors(module, self.type, self.sizes[part], self._alphas(part), dtype)
                for part, module in self.materials.modules.items()
            }
        )

    def finalize(self, dtype: torch.dtype) -> dict[str, Tensors]:
        family, settled = self.materials.family, dict[str, "dict[str, Tensors]"]()
        for part, module in self.materials.modules.items():
            module.to("cpu").float()
            settled[part] = finalize(module, self.type, self.sizes[part], self._alphas(part), dtype)
            self.answers[part] = family.probe_output(part, module, self.materials.tokenizers)
        return self._named(settled)

    def _alphas(self, part: str) -> dict[str, float]:
        return alphas(self.type, self.sizes[part], self._diffusers_named())

    def _diffusers_named(self) -> bool:
        return diffusers_named(self.materials.config.method, self.materials.family, self.type)

    def _named(self, adapters: dict[str, dict[str, Tensors]]) -> dict[str, Tensors]:
        """The file of each part's adapters by path, under the names that readers know."""
        family, tensors = self.materials.family, dict[str, "torch.Tensor"]()
        plain = self._diffusers_named()
        for part, found in adapters.items():
            named = {published_name(part, path): adapter for path, adapter in found.items()}
            tensors |= diffusers_keys(named, part) if plain else kohya_keys(named, partial(family.key, part))
        return {".safetensors": tensors}

    def metadata(self) -> dict[str, Any]:
        options = self.materials.config.method
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
        found = self.materials
        answers = {part: self.answers.get(part) for part in found.modules}
        verify_adapter(files[".safetensors"], found.family, found.checkpoint, answers, found.dtype)


def diffusers_named(options: MethodOptions, family: Family, type: AdapterType) -> bool:
    """Whether the file has diffusers' names; types that diffusers does not read have none."""
    named = options.lora_key_format == "diffusers" or (options.lora_key_format == "auto" and not family.kohya)
    return named and type.in_diffusers


def sizes_of(
    options: MethodOptions, targets: AdapterTargets, paths: list[str], adapts_convolutions: bool
) -> dict[str, RankAlpha]:
    """The size of the adapter of each of a part's modules that gets one."""
    shares = {block: rank / options.rank for block, rank in read_block_ranks(options.block_ranks).items()}
    sizes = sized(matching(paths, targets.linear), RankAlpha(options.rank, options.alpha or options.rank), shares)
    if options.conv_rank:
        conv = RankAlpha(options.conv_rank, options.conv_alpha or options.conv_rank)
        return sizes | sized(matching(paths, targets.conv), conv, shares)
    if adapts_convolutions:
        conv = RankAlpha(options.rank, options.conv_alpha or options.alpha or options.rank)
        return sizes | sized(matching(paths, targets.conv), conv, shares)
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
            if weight.is_meta:  # a model that is only measured
                continue
            stream = torch.Generator().manual_seed(seed_of(seed, "adapter", f"{path}.{end}"))
            weight.data.copy_(type.initializers[end](weight.shape, base, stream))


def load_adapters(module: Any, type: AdapterType, adapters: dict[str, Tensors]) -> dict[str, RankAlpha]:
    """Put adapters of an earlier training, by kohya's names, into a module; their sizes by path."""
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
    """Put in peft's layers, whose adapters alone can learn.

    They have the module's own number format where the kind allows it: in float32 beside bfloat16
    each would cast what it is given and what it gives, which is a fifth of all operations of a step.
    """
    import torch
    from peft import inject_adapter_in_model

    dtype = torch.float32 if type.fp32 else next(module.parameters()).dtype
    module.requires_grad_(False)
    inject_adapter_in_model(peft_config(type, sizes, factor), module, _NAME)
    for weight in parameters(module).values():
        weight.data = weight.data.to(dtype)
        weight.requires_grad_(True)


def drop_out(module: Any, share: float) -> None:
    """Let a module's adapters leave out a share of what they are given, wherever something is learned from it.

    What is left is scaled up, as in https://arxiv.org/abs/1207.0580. Where no gradient is wanted, in
    validation, samples and proofs, nothing is left out, though the module stays in the one mode that
    it has. What is left out is torch's own chance, which every step begins with a seed of its own.
    """
    import torch

    class Dropout(torch.nn.Module):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.dropout(given, share, training=torch.is_grad_enabled())

    for layer in module.modules():
        if _NAME in getattr(layer, "lora_dropout", ()):
            layer.lora_dropout[_NAME] = Dropout()


def _replace(layer: Any, end: str, value: torch.Tensor | None) -> None:
    """Give a layer another weight of any rank, or none, in place of its own."""
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
    """A module's adapters by path and kohya's names, in the type they are saved in; the module stays as it is.

    `stated` are the alphas that the file is to say.
    """
    return {
        path: to_file_tensors(type, {end: w.detach() for end, w in weights.items()}, sizes[path], (stated[path], dtype))
        for path, weights in by_module(parameters(module)).items()
    }


def finalize(
    module: Any, type: AdapterType, sizes: dict[str, RankAlpha], stated: dict[str, float], dtype: torch.dtype
) -> dict[str, Tensors]:
    """The same, and round the adapters in place: what is then tested in memory is what the file holds.

    PrepError when an adapter has learned so little that nothing of it is left.
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
                f"What {path} has learned is too little for {str(dtype).removeprefix('torch.')}.",
                "Save in more digits: --save-precision fp32",
            )
    if idle:
        log.warning("%d of %d adapters learned nothing: no loss depends on their modules.", idle, len(found))
    return found


def alphas(type: AdapterType, sizes: dict[str, RankAlpha], plain: bool) -> dict[str, float]:
    """The alpha that a file says of each module; where it is not the module's own, its weights are scaled.

    diffusers' names know none, so it is the rank. With kohya's names it is one for all modules of
    a part: of text encoders and of attention diffusers 0.42 ignores those that differ from the
    most frequent one, because it looks for them under names that these modules no longer have.
    """
    if plain:
        return {path: float(size.rank) for path, size in sizes.items()}
    own = {path: size.alpha for path, size in sizes.items()}
    return dict.fromkeys(own, max(own.values())) if type.in_diffusers else own
