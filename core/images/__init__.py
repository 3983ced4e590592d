"""Files to pixels and back; borders, crops, change maps."""
