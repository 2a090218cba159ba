"""Imports weights of other implementations, and exports models for other programs."""
