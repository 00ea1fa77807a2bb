"""The command line: arguments, progress bars and printing only."""
