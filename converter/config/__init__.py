"""From YAML and the command line to one validated specification, with all its problems."""
