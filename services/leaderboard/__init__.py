"""The public page: a read-only web service that shows the registry's boards."""
