"""The stages in order: a conversion, and the verification of a file that is there."""
