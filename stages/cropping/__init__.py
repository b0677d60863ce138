"""What crop is made of: sizes, where to look, and the geometry of a window."""
