"""Records, states, rules and the board as pure values: no gRPC, no database, no clock."""
