"""Model families: what differs between one kind of base model and another."""
