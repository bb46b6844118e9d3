"""Inputs of a model: drawn, in patterns, at sizes; the cases made of them."""
