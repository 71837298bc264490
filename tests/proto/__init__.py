"""The wire against the facts."""
