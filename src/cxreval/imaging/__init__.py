"""Decoding of radiographs and preprocessing into the tensors that models take.

Nothing here depends on labels, models or gRPC.
"""
