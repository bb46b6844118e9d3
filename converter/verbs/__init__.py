"""One file a verb: ``SUMMARY``, a literal for the help, and ``main(argv) -> int``."""
