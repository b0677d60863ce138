"""Sample images for the README's commands and prep demo: photographs (public domain or CC0) and rendered scenes."""
