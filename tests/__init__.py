"""Tests; each file tests the module of its name."""
