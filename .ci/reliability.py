"""Write RELIABILITY.md from the tests' records in outputs/reliability/.

`uv run python .ci/reliability.py`
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
RECORDS = PROJECT / "outputs" / "reliability"
PROMISES = {
    "P1": "A resumed run ends with bit-identical weights: every loss and trick, from any iteration, on one rank and on two.",
    "P2": "`kill -9` costs at most what came after the last save.",
    "P3": "Logging, scores and samples never change the weights.",
    "P4": "A save is all or nothing.",
    "P5": "A damaged checkpoint is detected, and the one before it is used.",
    "P6": "A signal saves the run at the end of its iteration and ends it with 128 + its number; a second signal ends it at once.",
    "P7": "Non-finite numbers reach neither the weights nor the disk.",
    "P8": "A wrong configuration costs one line and exit code 2; nothing is created.",
    "P9": "Broken data costs one line that names the file, and exit code 3.",
    "P10": "The same seed gives the same run on the same machine.",
    "P11": "Opening a file runs no code.",
    "P12": "A run leaves no secret of the environment.",
    "P13": "Two ranks hold bit-identical shared state, and play the same game as one, apart from statistics of a batch.",
    "P14": "Running out of disk or memory costs one line with sizes and the setting to change, and exit code 5.",
    "mutation": "Each of these faults, put into a copy of the source, fails the test for it.",
}
HEAD = """# Reliability

What the tests tried for each promise, and how often it held. Counts are full where the slow tests
have run, else those of `uv run pytest`. The seed of all draws is 0. To repeat, in about half an hour on 2 cores:

```
uv run pytest -m 'slow or not slow' && uv run python .ci/reliability.py
```

| promise | what was tried | held / of | counts | date |
| --- | --- | --- | --- | --- |
"""


def main() -> None:
    records = [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]
    (PROJECT / "RELIABILITY.md").write_text(HEAD + "".join(rows(records)))


def rows(records: Iterable[dict[str, Any]]) -> list[str]:
    """One row per trial; full counts replace everyday ones.

    The variants of a trial, named in brackets, are added up.
    """
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for record in sorted(records, key=lambda record: record["full"]):
        latest[record["promise"], record["what"]] = record
    trials: dict[tuple[str, str], dict[str, Any]] = {}
    for (promise, variant), record in latest.items():
        what = variant.partition(" (")[0]
        trial = trials.setdefault((promise, what), {**record, "held": 0, "tried": 0})
        trial["held"] += record["held"]
        trial["tried"] += record["tried"]
    lines = []
    for promise, text in PROMISES.items():
        cell = f"{promise.capitalize()}. {text}"
        for (name, what), trial in trials.items():
            if name == promise:
                counts = "full" if trial["full"] else "everyday"
                lines.append(f"| {cell} | {what} | {trial['held']} / {trial['tried']} | {counts} | {trial['date']} |\n")
                cell = ""  # the promise stands in the first of its rows
    return lines


if __name__ == "__main__":
    main()
