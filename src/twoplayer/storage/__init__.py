"""The files of a run on disk: checkpoints, records and the lock."""
