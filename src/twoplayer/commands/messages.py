"""Error messages: one line and an exit code for each error."""

import logging
import sys
import traceback
from pathlib import Path

from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from twoplayer.config.mistakes import in_words
from twoplayer.distributed import environment
from twoplayer.errors import ConfigurationError, NumericsError, TwoplayerError, origin, out_of_resources

log = logging.getLogger(__name__)


def print_error(error: BaseException, debug: bool = False, whose: str = "") -> int:
    """Print an error as one line after `whose`, once, and return its exit code.

    Errors that are not ours, and all errors with `debug`, are printed with a traceback.
    """
    reported = error
    if isinstance(error, InstantiationException | InterpolationResolutionError):
        error = origin(error)
    error = (not isinstance(error, TwoplayerError) and out_of_resources(error)) or error
    code = (
        error.exit_code
        if isinstance(error, TwoplayerError)
        else ConfigurationError.exit_code
        if isinstance(error, HydraException | OmegaConfBaseException)
        else 1
    )
    if not getattr(reported, "reported", False):
        reported.reported = True  # type: ignore[attr-defined]
        if (code == 1 and not isinstance(error, TwoplayerError)) or debug or "debug=true" in sys.argv:
            traceback.print_exception(reported)
        if environment.is_first():
            line = explain(error) if code >= 128 else f"error: {explain(error)}"  # what a signal stopped is no error
            print(f"{whose}{line}", file=sys.stderr, flush=True)
            _note(line)
        elif code != NumericsError.exit_code and code < 128:  # all ranks have the same error, and rank 0 prints it
            print(f"error on another rank: {explain(error)}", file=sys.stderr, flush=True)
    return code


def _note(message: str) -> None:
    """Log the message to train.log only, since the terminal already shows it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, message, (), None))


def explain(error: BaseException) -> str:
    """The message of an error as one line, with suggestions for unknown names."""
    if isinstance(error, HydraException) and (told := in_words(error, Path(sys.argv[0]).stem, sys.argv[1:])):
        return told
    return " ".join(str(error).split()) or type(error).__name__
