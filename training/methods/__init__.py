"""Training methods: what of a base model learns, what is published, and how that is proven to work."""
