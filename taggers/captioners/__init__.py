"""Captioners: taggers that write a caption about each image with a model of transformers."""
