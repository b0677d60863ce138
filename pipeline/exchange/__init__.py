"""Data sets as other tools hold them: one file per layout, each written and read."""
