"""The data and HTML pages of `prep report` and `prep compare`."""
