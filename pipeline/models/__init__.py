"""Models from the Hugging Face Hub: the catalog, downloading, verification, and finding them on this machine."""
