"""What one verb of the command line does, without the terminal."""
