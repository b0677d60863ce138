"""The base model: found, recognised by its configuration or its tensors, and loaded part by part."""
