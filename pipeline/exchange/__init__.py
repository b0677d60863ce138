"""Datasets in other tools' layouts: one module per layout, which writes and reads it."""
