"""A submitter's script, run here from its frozen commit, and what its predictions prove."""
