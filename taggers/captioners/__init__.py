"""Captioners: models that write a sentence about each image."""
