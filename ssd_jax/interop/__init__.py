"""Weights of other implementations in, models for other programs out."""
