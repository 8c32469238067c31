"""The referee: evidence of how a game goes, and rules that see it fail."""
