"""Base models: detected, loaded and converted; one module per model family."""
