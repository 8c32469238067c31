"""Planning, training and loading runs."""
