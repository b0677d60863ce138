"""One file per command that turns a manifest into the next."""
