"""What crop is made of: its options, aspect buckets, the focus of an image, and the geometry of a crop."""
