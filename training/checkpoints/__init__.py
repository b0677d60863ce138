"""Checkpoints: saving the state of a run, resuming from it, and the log of what was trained on."""
