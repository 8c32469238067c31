"""Write requirements.lock from pyproject.toml, or check it: `uv run python .ci/lock.py [--check]`.

The lock holds versions and hashes, and no address of an index, so it works behind a mirror too.
Versions in it stay while pyproject.toml allows them, whatever an index has added since; delete the
file to take the newest.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parents[1]
LOCK = PROJECT / "requirements.lock"
COMMAND = [
    "uv",
    "pip",
    "compile",
    "--quiet",
    "--universal",
    "--python-version",
    "3.11",
    "--generate-hashes",
    "--no-annotate",
    "--no-header",
    "--no-emit-index-url",
    "--group",
    "dev",
    "pyproject.toml",
]


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / LOCK.name
        if LOCK.exists():
            shutil.copy(LOCK, output)
        subprocess.run([*COMMAND, "--output-file", str(output)], cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
        content = output.read_text()
    if "--check" not in sys.argv:
        LOCK.write_text(content)
    elif not LOCK.exists() or LOCK.read_text() != content:
        sys.exit("requirements.lock is not what pyproject.toml asks for: run `uv run python .ci/lock.py` and commit it")


if __name__ == "__main__":
    main()
