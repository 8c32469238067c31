"""Loggers of scalars, pictures and the summary of a run."""
