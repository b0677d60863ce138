"""What looks on while a run trains: validation, verdicts, samples, curves, and a trial before the whole."""
