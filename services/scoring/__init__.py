"""The scoring service: the only process that reads the ground truth. It keeps nothing that a
restart would lose."""
