"""A submitter's script, run here from its frozen commit."""
