"""Reads data sets into records and batches, with NumPy; few files use TensorFlow, and say so."""
