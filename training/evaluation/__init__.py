"""Evaluation during and after a run: validation loss, verdicts, loss curves, outliers and the dry run."""
