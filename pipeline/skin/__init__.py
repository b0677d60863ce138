"""The Click side of the commands: options, output and exit codes, no work."""
