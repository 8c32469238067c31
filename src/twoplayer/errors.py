"""What can go wrong through no fault of ours, each kind with its exit code."""


class TwoplayerError(Exception):
    """An error that one line explains. The entry scripts print that line, without a traceback, and exit with `exit_code`."""

    exit_code = 1


class ConfigurationError(TwoplayerError):
    """A setting that does not exist, has the wrong type or range, or cannot go with another."""

    exit_code = 2


class DataError(TwoplayerError):
    """A data set that is missing, broken or not what it claims to be."""

    exit_code = 3


class NumericsError(TwoplayerError):
    """The game has produced numbers that are not finite."""

    exit_code = 4


class ResourceError(TwoplayerError):
    """Out of disk or memory."""

    exit_code = 5
