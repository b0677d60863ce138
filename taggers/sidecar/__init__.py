"""What people and other tools wrote beside the images already."""
