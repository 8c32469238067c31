"""The tricks, one file each."""
