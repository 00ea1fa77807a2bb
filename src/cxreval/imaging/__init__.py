"""From encoded radiographs to the tensors that models take. Knows nothing of labels, models or
gRPC."""
