"""Small models of the world, each made by one script from a seed: a tagger, an autoencoder and a painter."""
