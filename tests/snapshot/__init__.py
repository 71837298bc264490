"""The .snap files."""
