"""The scoring service, the only service that reads the ground truth.

It stores nothing: a restart loses only streams that are not finished, which clients send again.
"""
