"""Samplers: one short function each, from noise to latents."""
