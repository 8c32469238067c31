"""Scores and the features they are computed on."""
