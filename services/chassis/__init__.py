"""How every cxreval server is built: configuration, gRPC server, health, metrics, logs, TLS,
draining."""
