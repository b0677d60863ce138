"""Images as files and as arrays: read what is hostile, cut, reduce, convert, hash, write."""
