"""Taggers: stages that add tags, captions or measures to the records of cropped images."""
