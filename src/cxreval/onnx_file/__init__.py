"""Checks ONNX files before a runtime opens them.

The command line and the inference service use the same functions, so they report the same errors.
No module here imports onnxruntime; `services.inference.backends` makes the checks that need a
session or a run.
"""
