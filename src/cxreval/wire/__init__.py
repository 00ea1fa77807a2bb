"""Conventions of gRPC calls beyond the protos: errors, request ids, channels and limits."""
