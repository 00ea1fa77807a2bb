"""The inference service: serves ONNX classifiers, loaded by digest, with the OIP v2."""

from services import require

require("inference", "the inference service", "imagecodecs", "onnx", "onnxruntime", "pydicom")
