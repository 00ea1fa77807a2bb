"""Verification of boards by third parties: the audit chain of all events, and signed receipts."""
