"""Hostile input, damaged files, kills and strangers, replayed against the package."""
