"""What happens while a stage runs: how it ends, lines that run, files that are opened."""
