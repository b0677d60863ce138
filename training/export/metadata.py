"""The metadata of exported files: kohya's ss_* keys, modelspec, and the digest of the dataset.

Modelspec: https://github.com/Stability-AI/ModelSpec
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from training.batch import TrainingImage
from training.data.sampler import epoch_batches

if TYPE_CHECKING:
    from pipeline.manifest import Manifest
    from training.batch import RunConfig
    from training.checkpoints.run_state import TrainingProgress
    from training.objective import Objective
    from training.options.train_options import TrainOptions


def training_metadata(plan: RunConfig, progress: TrainingProgress) -> dict[str, str]:
    """What depends on the run and its images; no time, host or path, so that equal runs give equal files."""
    config, samples, base = plan.config, plan.samples, plan.checkpoint.base
    triggers = sorted({sample.subject for sample in samples if sample.subject})
    sizes = Counter((sample.width, sample.height) for sample in samples)
    width, height = max(sizes, key=lambda size: (sizes[size], size))  # the most frequent size
    metadata: dict[str, Any] = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": plan.family.architecture,
        "modelspec.implementation": "diffusers",
        "modelspec.title": config.saving.output,
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.trigger_phrase": ", ".join(triggers),
        "ss_base_model_version": plan.family.name,
        "ss_v2": plan.family.kohya_v2,
        "ss_sd_model_name": base.name,
        "ss_new_sd_model_hash": base.sha256,
        "ss_new_vae_hash": base.vae,
        "ss_output_name": config.saving.output,
        "ss_resolution": f"({width}, {height})",
        **_run_keys(config, progress),
        **_image_keys(samples, config),
    }
    return stringify(metadata)


def stringify(values: dict[str, Any]) -> dict[str, str]:
    """Values as strings, as a safetensors header requires; dictionaries as JSON."""
    return {
        key: json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
        for key, value in values.items()
    }


def _run_keys(config: TrainOptions, progress: TrainingProgress) -> dict[str, Any]:
    steps, epochs = progress.step, progress.epoch
    return {
        "ss_learning_rate": config.optimizer.learning_rate,
        "ss_unet_lr": config.optimizer.learning_rate,
        "ss_text_encoder_lr": config.optimizer.text_encoder_lr,
        "ss_optimizer": config.optimizer.optimizer,
        "ss_max_grad_norm": config.optimizer.max_grad_norm,
        "ss_gradient_accumulation_steps": config.optimizer.gradient_accumulation_steps,
        "ss_lr_scheduler": config.optimizer.lr_scheduler,
        "ss_lr_warmup_steps": round(config.optimizer.lr_warmup * steps),
        "ss_max_train_steps": steps,
        "ss_steps": steps,
        "ss_epoch": epochs,
        "ss_num_epochs": epochs,
        "ss_total_batch_size": config.optimizer.batch_size * config.optimizer.gradient_accumulation_steps,
        "ss_seed": config.optimizer.seed,
        "ss_noise_offset": config.objective.noise_offset,
        "ss_min_snr_gamma": config.objective.min_snr_gamma,
        "ss_prior_loss_weight": config.dataset.prior_loss_weight,
        "ss_mixed_precision": "bf16" if config.model.precision == "bf16" else "no",
    }


def _image_keys(samples: list[TrainingImage], config: TrainOptions) -> dict[str, Any]:
    folders: dict[bool, dict[str, dict[str, int]]] = {False: {}, True: {}}
    tags: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        folder = folders[sample.reg].setdefault(sample.folder, {"n_repeats": sample.repeats, "img_count": 0})
        folder["img_count"] += 1
        tags[sample.folder].update(tag for text in sample.caption.split(",") if (tag := text.strip().lower()))
    sizes = sorted(Counter((sample.width, sample.height) for sample in samples).items())
    buckets = {str(k): {"resolution": list(size), "count": count} for k, (size, count) in enumerate(sizes)}
    return {
        "ss_num_train_images": sum(sample.repeats for sample in samples if not sample.reg),
        "ss_num_reg_images": sum(1 for sample in samples if sample.reg),
        "ss_num_batches_per_epoch": len(
            epoch_batches(
                samples, 0, config.optimizer.batch_size, config.optimizer.seed, config.dataset.incomplete_batch
            )
        ),
        "ss_dataset_dirs": folders[False],
        "ss_reg_dataset_dirs": folders[True],
        "ss_tag_frequency": {folder: dict(counts.most_common()) for folder, counts in sorted(tags.items())},
        "ss_enable_bucket": len(sizes) > 1,
        "ss_bucket_info": {"buckets": buckets},
    }


def provenance(manifest: Manifest, objective: Objective, sha256: str) -> dict[str, str]:
    """The dataset's digest, the prediction type, and the hash of the file's tensors, if there is one."""
    keys = {
        "prep_dataset": manifest.digest,
        "modelspec.prediction_type": {"v_prediction": "v"}.get(objective.prediction, objective.prediction),
    }
    return keys | ({"modelspec.hash_sha256": f"0x{sha256}", "sshs_model_hash": sha256} if sha256 else {})
