"""What travels to nodes that share no folder with this machine, and back, by its content."""
