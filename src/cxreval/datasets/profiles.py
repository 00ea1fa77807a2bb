"""Names of the preprocessing profiles.

The registry refuses a submission that names an unknown profile, but it opens no image and may not
import `cxreval.imaging`. The names are therefore here; `cxreval.imaging.preprocess.PROFILES` has
exactly these.
"""

PROFILE_NAMES = ("imagenet-224", "imagenet-224-tencrop", "xrv-224", "xrv-512")
"""Every preprocessing profile that a manifest can name, sorted."""
