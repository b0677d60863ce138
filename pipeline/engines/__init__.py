"""Engines, which run a stage's work on batches of records."""
