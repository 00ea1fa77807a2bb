"""ONNX files as data: what a file must be before a runtime opens it.

The command line and the inference service use the same functions, so they give the same answer. Nothing here
knows onnxruntime: what only opening a session or running the model can show is left to
`services.inference.backends`.
"""
