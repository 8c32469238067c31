"""Callbacks that run between iterations."""
