"""Plugins for the converter that live outside of its repository."""
