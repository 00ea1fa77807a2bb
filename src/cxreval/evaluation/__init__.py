"""The walk of a submission: lease, predict, record, score, publish. A library; `cxreval worker`
runs it."""
