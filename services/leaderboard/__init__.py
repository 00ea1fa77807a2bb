"""The public page: renders the registry's boards as pages, feeds and files for visitors."""
