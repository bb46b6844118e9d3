"""What a person sees while a run goes on and at its end: progress, tables, ``run.log``."""
