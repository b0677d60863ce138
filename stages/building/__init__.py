"""What build is made of: the layout of the dataset folders."""
