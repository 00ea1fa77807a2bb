"""The processes that open strangers' files: hosts of models, and decoders of images."""
