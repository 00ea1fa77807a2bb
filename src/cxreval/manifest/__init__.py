"""A submission's manifest: what it holds, its rules, and its forms as YAML and as JSON Schema.

The command line, the client and the registry all judge a manifest by these rules, so a file that
`cxreval submission check` finds without fault is refused by a registry only for what the file
cannot know.
"""
