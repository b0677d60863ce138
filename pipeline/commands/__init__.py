"""Commands that are not stages: they begin a workspace, look at it, compare and replay."""
