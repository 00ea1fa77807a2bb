"""What all servers share: configuration, gRPC server, health, metrics, logs, TLS, draining."""
