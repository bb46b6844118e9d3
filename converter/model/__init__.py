"""The nouns: what is asked for, what a job is, what a row of the manifest says. No I/O."""
