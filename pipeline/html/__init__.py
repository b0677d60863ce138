"""HTML pages: one file each that needs no network, with the images in it."""
