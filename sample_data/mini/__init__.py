"""Small models trained on the world, each by one script from a seed: a tagger, an autoencoder and a diffusion model."""
