"""What prep report measures of a set, and the page that shows it."""
