"""Limits both ends of a call know, each in one place."""

MIB = 1 << 20

MAX_MESSAGE_BYTES = 64 * MIB
"""Largest gRPC message: 16 float32 images of 3x512x512, or the largest encoded image, fit with room
to spare."""

MAX_RECORD_BYTES = 8 * MIB
"""Largest message to the registry and to scoring, which get no images: a full batch of predictions
fits twice. Small messages take many times their size once they are parsed."""

CHUNK_BYTES = 1 * MIB
"""Largest piece of an artifact in one message."""

MAX_ARTIFACT_BYTES = 2048 * MIB - 1
"""Largest artifact, download and model file: protobuf, and so an ONNX file, ends below 2 GiB."""

MAX_BATCH_IMAGES = 4096
"""Most images in one batch of predictions."""

MAX_FAILURE_CHARACTERS = 4000
"""Maximum length of the message of a failure; a longer one is cut."""

MAX_REPORT_METRICS = 1000
"""Most values in one report."""

MAX_PAGE_SIZE = 500
DEFAULT_PAGE_SIZE = 50
