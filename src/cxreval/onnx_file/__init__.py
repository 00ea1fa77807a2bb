"""Checks of an ONNX file before a runtime opens it.

The command line and the inference service use the same functions, so they give the same answer.
Nothing here imports onnxruntime: what only a session or a run can show is left to
`services.inference.backends`.
"""
