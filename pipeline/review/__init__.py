"""The review: a full-screen terminal application for images and captions, and its state."""
