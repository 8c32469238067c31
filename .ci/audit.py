"""Compare the pinned versions with the known vulnerabilities: `uv run python .ci/audit.py`.

Skipped where the service that knows them cannot be reached.
"""

import subprocess
import sys
import urllib.request
from pathlib import Path

PROJECT = Path(__file__).parents[1]
SERVICE = "https://pypi.org/pypi/pip/25.0/json"  # pip-audit asks for every version like this; mirrors may know packages only


def main() -> None:
    try:
        with urllib.request.urlopen(SERVICE, timeout=5):
            pass
    except OSError as error:
        print(f"audit skipped: the vulnerability service cannot be reached ({error})")
        return
    command = ["uvx", "pip-audit", "--requirement", "requirements.lock", "--require-hashes", "--disable-pip"]
    sys.exit(subprocess.run(command, cwd=PROJECT, check=False).returncode)


if __name__ == "__main__":
    main()
