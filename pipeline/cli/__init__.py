"""The command line: Click options, output and exit codes, one thin module per command."""
