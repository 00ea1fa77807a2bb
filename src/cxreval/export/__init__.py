"""PyTorch models to ONNX checkpoints. Needs the `export` extra; nothing else in cxreval imports
PyTorch."""
