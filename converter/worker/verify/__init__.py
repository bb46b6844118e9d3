"""The verdict on a file: right or wrong, where, by whose fault, on which domain."""
