"""A web page, and an HTTP endpoint, to try a detector."""
