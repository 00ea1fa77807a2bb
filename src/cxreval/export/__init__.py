"""Converts PyTorch models to ONNX checkpoints. Needs the `export` extra.

No other package of cxreval imports PyTorch.
"""
