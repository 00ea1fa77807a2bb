"""Data sets, and the specifications of the benchmarks that use them.

No module here decodes pixels, and only `truth` reads labels.
"""
