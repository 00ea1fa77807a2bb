"""What the registry knows about its subject: records, states, rules and the board. Pure: no gRPC,
no database."""
