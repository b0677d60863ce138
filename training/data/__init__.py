"""Training data: images, captions, latents, text embeddings and masks, and the order of the batches."""
