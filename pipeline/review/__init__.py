"""The review in the terminal: what it shows of a manifest, what the user decides, and how it is drawn."""
