"""The two-player game: one iteration, its clock, engines and optimizers."""
