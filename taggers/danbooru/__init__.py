"""Taggers with Danbooru's tags: networks with one score for each of thousands of tags."""
