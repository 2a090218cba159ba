"""Replays attacks on the package: hostile input, damaged files, kills and malicious requests."""
