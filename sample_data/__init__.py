"""Small photographs, public domain or CC0, for the README's commands and prep demo."""
