"""The ground that all others stand on: folders of a run, locks, atomic files, signals, trust."""
