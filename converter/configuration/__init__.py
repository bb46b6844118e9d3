"""From YAML and the command line to jobs. Parent-side: nothing here imports torch."""
