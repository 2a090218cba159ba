"""Compares variants of the same work, in separate processes, measured in turns."""
