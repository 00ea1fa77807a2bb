"""The inference service: ONNX classifiers behind the Open Inference Protocol v2, loaded by the
digest of their file."""

from services import require

require("inference", "the inference service", "imagecodecs", "onnx", "onnxruntime", "pydicom")
