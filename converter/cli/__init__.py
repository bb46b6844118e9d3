"""The command line: its entry, and one file for each command."""
