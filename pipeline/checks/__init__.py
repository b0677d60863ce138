"""Rules that find what is wrong with a dataset, and the findings that name the images and what to do."""
