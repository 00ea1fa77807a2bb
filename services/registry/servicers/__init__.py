"""The registry's rpcs and metrics. A servicer converts the request, calls a store in a thread, and
converts the answer."""
