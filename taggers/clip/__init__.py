"""CLIP: tags from a list of the user's own, and embeddings of images."""
