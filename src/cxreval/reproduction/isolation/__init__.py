"""Runs a stranger's script without network, with files to read only, and within stated limits."""
