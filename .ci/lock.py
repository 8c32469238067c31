"""Write requirements.lock from pyproject.toml, or check that it is that: `uv run python .ci/lock.py [--check]`.

The lock holds versions and hashes, and no address of an index: it is as good behind a mirror as in front of it.
"""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
LOCK = PROJECT / "requirements.lock"
COMMAND = [
    "uv",
    "pip",
    "compile",
    "--quiet",
    "--universal",
    "--generate-hashes",
    "--no-annotate",
    "--no-header",
    "--no-emit-index-url",
    "--group",
    "dev",
    "pyproject.toml",
]


def main() -> None:
    content = subprocess.run(COMMAND, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    if "--check" not in sys.argv:
        LOCK.write_text(content)
    elif not LOCK.exists() or LOCK.read_text() != content:
        sys.exit("requirements.lock is not what pyproject.toml asks for: run `uv run python .ci/lock.py` and commit it")


if __name__ == "__main__":
    main()
