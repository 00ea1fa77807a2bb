"""Limits that clients and services share, each defined once.

The comments of the protos repeat them; `tests/contract/test_limits.py` compares the two.
"""

MIB = 1 << 20

MAX_MESSAGE_BYTES = 64 * MIB
"""Maximum size of a gRPC message; 16 float32 images of 3x512x512 fit, with their headers."""

MAX_RECORD_BYTES = 8 * MIB
"""Maximum size of a message to the registry or to scoring, which take no images.

Twice the size of a full batch of predictions. It is small because parsed messages take many times
the memory of their bytes.
"""

CHUNK_BYTES = 1 * MIB
"""Maximum size of the part of an artifact in one message."""

MAX_BATCH_IMAGES = 4096
"""Maximum number of images in one batch of predictions."""

MAX_REASON_CHARACTERS = 1000
"""Maximum length of the reason for a change of a submission."""

MAX_FAILURE_CHARACTERS = 4000
"""Maximum length of the message of a failure; a longer one is cut."""

MAX_OUTPUT_BYTES = 1 * MIB
"""Maximum size of what a submitter's script printed, as it is kept."""

MAX_PROVENANCE_ENTRIES = 100
MAX_PROVENANCE_CHARACTERS = 4000
"""Maximum length of one value of an evaluation's provenance."""

MAX_TOKEN_CHARACTERS = 4096
"""Maximum length of an endpoint's token."""

MAX_PAGE_SIZE = 500
DEFAULT_PAGE_SIZE = 50
