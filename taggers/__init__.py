"""One file per tagger: something that looks at an image and says what it shows."""
