"""What an entry script does around its work."""
