"""The registry's storage: the database and the artifact store."""
