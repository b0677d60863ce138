"""Training methods: which weights are trained, what is exported, and how the exported file is verified."""
