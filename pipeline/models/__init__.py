"""The models of others: which there are, where they lie, how they come from the hub whole and checked."""
