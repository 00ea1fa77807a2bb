"""The registry's rpcs and metrics: convert, call the store in a thread, convert."""
