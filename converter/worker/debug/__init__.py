"""Which node of a wrong file is the first that is wrong, and the least that shows it."""
