"""What can be wrong with an installation: facts, what follows from them, a trial conversion."""
