"""Charts of the public page: pure functions from plain data to SVG, one module a kind."""
