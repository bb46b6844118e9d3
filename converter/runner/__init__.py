"""One run: its directory, its record, and what the person sees. Parent-side."""
