"""Reads data sets into records and batches.

Most files use NumPy alone. TensorFlow makes the training batches and reads its own data sets
(TensorFlow Datasets); files that need it import `tensorflow_setup`.
"""
