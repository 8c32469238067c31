"""Data sets, and the in-memory loader."""
