"""Several processes that train one game."""
