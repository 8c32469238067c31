"""From a configuration to a finished run, and back from its folder."""
