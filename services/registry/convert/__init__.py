"""Converts messages of the registry to the domain's records and back, one module per resource.

Conversion checks the form of a message; the domain checks its content.
"""
