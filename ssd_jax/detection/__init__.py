"""SSD itself: boxes, matching, loss and decoding. Pure functions, static shapes, JAX alone."""
