"""Limits both ends of a call know, each in one place."""

MIB = 1 << 20

MAX_MESSAGE_BYTES = 64 * MIB
"""Largest gRPC message: 16 float32 images of 3x512x512, or the largest encoded image, fit with room to spare."""

CHUNK_BYTES = 1 * MIB
"""Largest piece of an artifact in one message."""

MAX_ARTIFACT_BYTES = 2048 * MIB
"""Largest checkpoint."""

MAX_BATCH_IMAGES = 4096
"""Most images in one batch of predictions."""

MAX_PAGE_SIZE = 500
DEFAULT_PAGE_SIZE = 50
