"""The schema of a configuration, and its check."""
