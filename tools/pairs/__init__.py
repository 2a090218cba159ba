"""Variants of one piece of work, each in a process of its own, measured in turns."""
