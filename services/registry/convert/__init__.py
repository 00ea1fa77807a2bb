"""Messages of the registry to the domain's records and back, one module a resource.

Reading a message checks its form; the domain judges its content.
"""
