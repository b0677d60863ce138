"""The trainer: from a built data set to adapter weights."""
