"""HTML pages: self-contained files with their images inside, rendered from Jinja templates."""
