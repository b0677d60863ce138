"""Sampling: text to image during training, prompts and contact sheets."""
