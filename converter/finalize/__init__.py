"""What becomes of a finished run: past runs, the published folder, retention, commands."""
