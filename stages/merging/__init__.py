"""What merge is made of: which tags count, what becomes of each, and how a caption is composed."""
