"""A small world that draws itself: scenes, the tags that hold in them, and their images at any size."""
