"""The command line: arguments, progress bars and printing only."""

import os

# Errors are reported by name; gRPC's own log of each handshake would bury them.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
