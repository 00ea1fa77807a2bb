"""The inference service: serves ONNX classifiers, loaded by digest, with the OIP v2."""
