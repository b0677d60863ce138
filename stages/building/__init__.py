"""What build is made of: who is held out, and where each image goes."""
