"""Places outside of the run: folders, and prefixes of object stores that fsspec reaches."""
