"""`python -m twoplayer.commands.rank`: another local rank, with its plan as JSON on stdin."""

import json
import signal
import sys
from typing import Any

from twoplayer.commands import terminal
from twoplayer.commands.messages import print_error
from twoplayer.distributed import environment


def main() -> None:
    """Train as one rank of the plan, and exit with the code of an error."""
    environment.end_with_parent()
    terminal.outlive()
    plan: dict[str, Any] = json.load(sys.stdin)
    try:
        from twoplayer.runs.plan import receive
        from twoplayer.runs.train import train

        train(*receive(plan))
    except KeyboardInterrupt:  # before training: nothing to save
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        sys.exit(print_error(error, plan["config"]["debug"]))


if __name__ == "__main__":
    main()
