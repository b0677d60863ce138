"""The tagger that reads captions and tags from files next to the images."""
