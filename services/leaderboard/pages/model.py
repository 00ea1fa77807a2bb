"""The page of a model that has a row."""
