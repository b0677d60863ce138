"""Exported files: tensors, metadata, and the checks before a file gets its name."""
