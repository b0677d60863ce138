"""ControlNet: maps of images, control models, and the U-Net that they control."""
