"""Names of the preprocessing profiles.

The registry refuses a submission that names an unknown profile, but it may not import
`cxreval.imaging`: it never opens an image. So the names stand here, apart from the pixels;
`cxreval.imaging.preprocess.PROFILES` has exactly these.
"""

PROFILE_NAMES = ("imagenet-224", "imagenet-224-tencrop", "xrv-224", "xrv-512")
"""Every preprocessing profile a submission can ask for, sorted."""
