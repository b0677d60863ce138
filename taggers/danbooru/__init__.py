"""Taggers of Danbooru's words: networks with one score for each of thousands of tags."""
