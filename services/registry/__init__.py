"""The registry: keeps submissions, artifacts, evaluations and results, and publishes the board. The
only database."""
