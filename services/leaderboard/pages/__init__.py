"""The pages: each function takes what is known and returns one page."""
