"""What both ends of a gRPC call agree on beyond the protos: errors, request ids, channels and
limits."""
