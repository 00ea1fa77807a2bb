"""Runs evaluations: lease, predict, record, score, publish. `cxreval worker` uses it."""
