"""Images as files and arrays: safe decoding, resampling, color conversion, hashing, face detection, PNG encoding."""
