"""Where the registry keeps things: a SQL database and a folder of artifacts."""
