"""The manifest of a submission: its fields and rules, its YAML form and its JSON Schema.

The command line, the client and the registry apply the same rules. A registry refuses a file that
`cxreval submission check` accepts only for reasons that are not in the file.
"""
