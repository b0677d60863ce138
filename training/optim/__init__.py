"""Optimizers, learning-rate schedules and the trained parameters."""
