"""Comparing arrays: tolerances, parts of an output, detections, what says nothing."""
