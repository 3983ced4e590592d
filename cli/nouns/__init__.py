"""The groups of the command line: lists and details of what exists."""
