"""Option names of earlier versions of prep, with the present name of each."""

from __future__ import annotations

# By stage, tagger, other command, or table of prep.toml: the earlier name and the present one, as prep.toml has them.
EARLIER_NAMES = {
    "augment": {
        "mirror": "flip",
    },
    "build": {
        "near_duplicate": "near_duplicate_bits",
        "rotation": "reg_offset",
        "title": "dataset_name",
        "validation": "validation_share",
    },
    "crop": {
        "max_lost": "max_cropped",
        "split_most": "max_splits",
        "step": "bucket_step",
    },
    "generate": {
        "at_once": "batch_size",
        "guidance_scale": "cfg_scale",
        "scale": "cfg_scale",
    },
    "merge": {
        "counts": "tag_counts",
        "coverage": "min_coverage",
        "first": "pinned",
        "kinds": "taxonomy",
        "limit": "max_tags",
        "pmi": "min_pmi",
        "review": "review_coverage",
        "same": "near_duplicate_bits",
        "share": "conflict_share",
        "strength": "prior_strength",
        "token_limit": "max_tokens",
        "z": "min_z",
    },
    "group": {
        "pictures": "images",
    },
    "plan": {
        "batch": "batch_size",
    },
    "report": {
        "pictures": "images",
    },
    "review": {
        "pictures": "images",
    },
    "run": {
        "unchecked": "skip_checks",
    },
    "basic": {
        "share": "min_share",
    },
    "blip": {
        "beams": "num_beams",
    },
    "git": {
        "beams": "num_beams",
        "clean": "remove_words",
    },
    "vlm": {
        "system": "system_prompt",
    },
    "clip": {
        "against": "negative_template",
        "floor": "min_score",
    },
    "deepdanbooru": {
        "floor": "min_score",
    },
    "wd14": {
        "floor": "min_score",
    },
    "files": {
        "form": "format",
    },
    "train": {
        "accumulate": "gradient_accumulation_steps",
        "batch": "batch_size",
        "caption_dropout_every": "caption_dropout_every_n_epochs",
        "caption_tokens": "max_token_length",
        "clip": "max_grad_norm",
        "continue_from": "init_from",
        "cycles": "lr_cycles",
        "debiased": "debiased_estimation",
        "density": "timestep_sampling",
        "density_centre": "logit_mean",
        "density_width": "logit_std",
        "dropout": "network_dropout",
        "ema": "ema_decay",
        "embedding_norm": "max_embedding_norm",
        "embedding_rate": "embedding_lr",
        "flip": "random_flip",
        "flow_weight": "weighting_scheme",
        "format": "lora_key_format",
        "fresh": "restart",
        "graphs": "cuda_graphs",
        "init_words": "init_text",
        "keep": "save_total_limit",
        "lora_plus": "loraplus_lr_ratio",
        "loss": "loss_type",
        "mask_floor": "unmasked_weight",
        "min_snr": "min_snr_gamma",
        "power": "lr_power",
        "prediction": "prediction_type",
        "result": "keep_weights",
        "sample_at_once": "sample_batch_size",
        "save_files": "export_checkpoints",
        "scheduler": "lr_scheduler",
        "shift": "flow_shift",
        "shift_by_size": "flow_shift_by_size",
        "shuffle_captions": "shuffle_caption",
        "text_encoder_2_rate": "text_encoder_2_lr",
        "text_encoder_rate": "text_encoder_lr",
        "time_from": "min_timestep",
        "time_to": "max_timestep",
        "trial": "dry_run",
        "unchecked": "skip_checks",
        "underfilled": "incomplete_batch",
        "validation_near": "near_duplicate_bits",
        "validation_pictures": "validation_images",
        "validation_times": "validation_timesteps",
        "vectors": "num_vectors",
        "warmup": "lr_warmup",
        "zero_snr": "zero_terminal_snr",
    },
}
