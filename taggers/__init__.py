"""One file per tagger: something that looks at a picture and says what it shows."""
