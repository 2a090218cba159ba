"""A page in the browser, and an HTTP endpoint, to try a detector on."""
