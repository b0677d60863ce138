"""What can be wrong with a data set: rules that look, and findings that say so with the images and the fix."""
