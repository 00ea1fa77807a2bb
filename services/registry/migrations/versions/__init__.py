"""One module a revision, oldest `0001`."""
