"""What makes a board checkable by anybody: a chain of all events, and signed receipts of published
rows."""
