"""Checks of single fields that several messages share."""

from cxreval.fields import (
    MAX_EMAIL_CHARACTERS,
    MAX_URL_CHARACTERS,
    check_email,
    check_https_url,
    check_pattern,
    check_text,
    refused,
    require,
    shown,
)

__all__ = [
    "MAX_EMAIL_CHARACTERS",
    "MAX_URL_CHARACTERS",
    "check_email",
    "check_https_url",
    "check_pattern",
    "check_text",
    "refused",
    "require",
    "shown",
]
