"""What a run leaves behind and goes on from: checkpoints, what it saw, and the files it publishes."""
