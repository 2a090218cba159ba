"""Paths of users, and files that are read and written."""
