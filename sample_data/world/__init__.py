"""A small procedural world: random scenes, their true tags, and their images at any size."""
