"""What the commands do, as functions without Click: pipeline.cli calls them."""
