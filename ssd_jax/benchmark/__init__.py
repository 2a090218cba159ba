"""The speed of a machine in training, prediction and reading data."""
