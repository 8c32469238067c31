"""Metrics, and the features they are computed on."""
