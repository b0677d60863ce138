"""One file per tagger: something that looks at a image and says what it shows."""
