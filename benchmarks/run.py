"""Measures speed, memory and time to quality.

`python benchmarks/run.py` takes an hour and a half on an idle machine, most of it for `quality`;
`python benchmarks/run.py overhead scaling` runs some of it. Writes benchmarks/results.json and
docs/time_to_quality.png, and prints a table.

All figures are ratios within one run, or come with what the machine can do at that moment.
"""

import contextlib
import functools
import io
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from quality import time_to_quality
from twoplayer.callbacks.samples import Samples
from twoplayer.callbacks.scores import Scores
from twoplayer.config.compose import compose_run
from twoplayer.game.build import build_game
from twoplayer.game.engine import Precision, configure_process, resolve_precision
from twoplayer.game.game import Game
from twoplayer.runs.plan import open_data, plan_run
from twoplayer.runs.train import train

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PLOT = HERE.parent / "docs" / "time_to_quality.png"
REPEATS = 5
CPU = torch.device("cpu")
Spread = dict[str, float]


def spread(values: list[float]) -> Spread:
    """Median, minimum and maximum."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def play(folder: Path, *overrides: str) -> dict[str, Any]:
    """Train in this process without output; returns the summary."""
    config = compose_run(f"run='{folder}'", *overrides)
    with contextlib.redirect_stdout(io.StringIO()):
        return train(config, plan_run(config, folder))


def overhead() -> dict[str, Any]:
    """Time of our iteration, with the default callbacks and logging, over that of a bare loop."""
    ratios, speeds = [], []
    for _ in track(range(REPEATS), "overhead"):
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "seconds.npz"
            alternate = f"+callbacks.alternate={{_target_:alternate.Alternate,file:'{file}'}}"
            play(Path(scratch) / "run", "budget.images=25600", "metric=none", "precision=fp32", "~callbacks.samples", alternate)
            seconds = np.load(file)
            ratios.append(float(np.median(seconds["ours"]) / np.median(seconds["bare"])))
            speeds.append(float(compose_run().data.batch_size / np.median(seconds["ours"])))
    return {"ours / bare": spread(ratios), "images/s": spread(speeds)}


def shares() -> dict[str, Any]:
    """The share of the time of a default run that scores and sample grids take."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(method: Callable[..., None], name: str) -> Callable[..., None]:
        @functools.wraps(method)
        def wrapper(*arguments: Any) -> None:
            started = time.perf_counter()
            method(*arguments)
            seconds[name] += time.perf_counter() - started

        return wrapper

    methods = {kind: kind.on_train_batch_end for kind in (Scores, Samples)}
    try:
        for kind, method in methods.items():
            kind.on_train_batch_end = timed(method, kind.__name__.lower())  # type: ignore[method-assign]
        with tempfile.TemporaryDirectory() as scratch:
            summary = play(Path(scratch) / "run", "budget.images=128000")
    finally:
        for kind, method in methods.items():
            kind.on_train_batch_end = method  # type: ignore[method-assign]
    return {f"share of {name}": value / summary["seconds"] for name, value in seconds.items()}


def iterations(game: Game, config: DictConfig, num: int) -> float:
    """Seconds per iteration of the game alone, from its present iteration on."""
    batches = open_data(config).batches(config.seed, game.device)
    synchronize = torch.cuda.synchronize if game.device.type == "cuda" else lambda: None
    synchronize()
    started = time.perf_counter()
    for _ in range(num):
        game.iterate(batches.batch(game.clock.iteration))
    synchronize()
    return (time.perf_counter() - started) / num


def peak(precision: Precision, size: int = 2048, repeats: int = 5) -> float:
    """The speed of a matrix product on this CPU in this precision, in FLOP/s."""
    one, other = (torch.randn(size, size, dtype=torch.bfloat16 if precision == "bf16" else torch.float32) for _ in range(2))
    _ = one @ other
    started = time.perf_counter()
    for _ in range(repeats):
        _ = one @ other
    return 2 * size**3 * repeats / (time.perf_counter() - started)


def efficiency() -> dict[str, Any]:
    """Counted FLOP/s of an iteration, relative to those of a matrix product on this machine.

    Both use the precision that precision=auto resolves to.
    """
    precision, found = resolve_precision("auto", CPU), {}
    for model in track(("dcgan", "gan"), "efficiency"):
        config = compose_run(f"model={model}", f"precision={precision}")
        game = build_game(config, CPU)
        iterations(game, config, 5)
        with FlopCounterMode(display=False) as counter:
            iterations(game, config, 1)
        shares, speeds = [], []
        for _ in range(REPEATS):
            seconds = iterations(game, config, 10)
            shares.append(counter.get_total_flops() / seconds / peak(precision))
            speeds.append(config.data.batch_size / seconds)
        found[model] = {
            "MFLOP/image": counter.get_total_flops() / config.data.batch_size / 1e6,
            "of the peak": spread(shares),
            "images/s": spread(speeds),
            "parts": parts(game, config),
        }
    return {"precision": precision, "peak, GFLOP/s": peak(precision) / 1e9, **found}


PARTS = {"onvolution": "convolutions", "norm": "normalization", "relu": "activations", "threshold": "activations", "clamp": "activations",
         "mm": "linear", "adam": "optimizers", "Adam": "optimizers", "foreach": "optimizers", "index": "data", "copy": "copies"}  # fmt: skip


def parts(game: Game, config: DictConfig) -> dict[str, float]:
    """The share of an iteration's time by kind of operator."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        iterations(game, config, 5)
    seconds: dict[str, float] = defaultdict(float)
    for event in profile.key_averages():
        seconds[next((part for word, part in PARTS.items() if word in event.key), "rest")] += event.self_cpu_time_total
    return {part: share / sum(seconds.values()) for part, share in sorted(seconds.items(), key=lambda item: -item[1])}


def engines() -> dict[str, Any]:
    """Compiled against eager, alternating; and the seconds to compile."""
    found = {}
    for model in track(("dcgan", "gan"), "engines"):
        games = {}
        for engine in ("eager", "compiled"):
            config = compose_run(f"model={model}", f"engine={engine}")
            game = build_game(config, CPU)
            started = time.perf_counter()
            iterations(game, config, 5)
            games[engine] = game, time.perf_counter() - started
        ratios = [iterations(games["eager"][0], config, 5) / iterations(games["compiled"][0], config, 5) for _ in range(4 * REPEATS)]
        found[model] = {"compiled / eager, speed": spread(ratios), "seconds to compile": games["compiled"][1] - games["eager"][1]}
    return found


def startup() -> dict[str, Any]:
    """Time of a command of one iteration, over that of importing Lightning.

    Files are cached; scores and sample grids are off.
    """
    script = HERE.parent / "src" / "train.py"
    ratios, ours = [], []
    for _ in track(range(REPEATS), "start-up"):
        with tempfile.TemporaryDirectory() as scratch:
            seconds = []
            quick = [f"run={scratch}/run", "metric=none", "~callbacks.samples", "budget.images=1"]
            for command in (["-c", "import pytorch_lightning"], [str(script), *quick]):
                started = time.perf_counter()
                subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=HERE.parent)
                seconds.append(time.perf_counter() - started)
            ratios.append(seconds[1] / seconds[0])
            ours.append(seconds[1])
    return {"ours / import pytorch_lightning": spread(ratios), "seconds, with one iteration and the end of the run": spread(ours)}


def speed_and_memory(*overrides: str) -> dict[str, float]:
    """Images/s and peak memory of one configuration; call it in a new process."""
    config = compose_run(*overrides)
    configure_process()
    game = build_game(config, CPU)
    iterations(game, config, 3)
    seconds = statistics.median(iterations(game, config, 3) for _ in range(3))
    return {"images/s": config.data.batch_size / seconds, "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def ranks(devices: int) -> float:
    """Images/s of a whole run with this many ranks."""
    with tempfile.TemporaryDirectory() as scratch:
        quick = [
            f"run={scratch}/run",
            "metric=none",
            "~callbacks.samples",
            "logger=none",
            "budget.images=25600",
            f"trainer.devices={devices}",
        ]
        subprocess.run([sys.executable, str(HERE.parent / "src" / "train.py"), *quick], check=True, capture_output=True, cwd=HERE.parent)
        summary = json.loads((Path(scratch) / "run" / "summary.json").read_text())
    return float(summary["images_per_second"])


def scaling() -> dict[str, Any]:
    """Speed and peak memory of the default game by batch size, width and image size; two ranks."""
    changes = [f"data.batch_size={size}" for size in (32, 64, 128, 256, 512)]
    changes += [f"model.generator.width={8 * times} model.discriminator.width={16 * times}" for times in (1, 2, 4)]
    changes += [f"data.image_size={size}" for size in (28, 32, 64, 128)]
    found: dict[str, Any] = {}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for change in track(changes, "scaling"):
            found[change] = pool.submit(speed_and_memory, *change.split()).result()
    one, two = ([ranks(devices) for _ in range(3)] for devices in (1, 2))
    found["two ranks / one, speed"] = spread([b / a for a, b in zip(one, two, strict=True)])
    return found


def threads() -> dict[str, Any]:
    """Images/s with one thread, all threads, and threads=auto.

    Each is measured on an idle machine and beside a busy process.
    """
    found: dict[str, Any] = {}
    for beside in ("alone", "beside a busy process"):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(beside != "alone")]
        try:
            speeds: dict[str, list[float]] = defaultdict(list)
            for _ in track(range(3), f"threads, {beside}"):
                for setting in ("1", str(torch.get_num_threads()), "auto"):
                    with tempfile.TemporaryDirectory() as scratch:
                        quick = [
                            f"threads={setting}",
                            "budget.images=12800",
                            "budget.seconds=15",
                            "metric=none",
                            "~callbacks.samples",
                            "logger=none",
                        ]
                        speeds[setting].append(play(Path(scratch) / "run", *quick)["images_per_second"])
        finally:
            for process in busy:
                process.kill()
        for setting, values in speeds.items():
            found[f"{beside}, threads={setting}, images/s"] = spread(values)
        found[f"{beside}, auto / one thread"] = spread([auto / one for auto, one in zip(speeds["auto"], speeds["1"], strict=True)])
    return found


def gpu() -> dict[str, Any]:
    """Images/s of every engine, model and batch size, with and without R1.

    Also the seconds and the score for a million images.
    """
    if not torch.cuda.is_available():
        return {"skipped": "there is no GPU"}
    found: dict[str, Any] = {"device": torch.cuda.get_device_name()}
    device = torch.device("cuda")
    for model in ("dcgan", "gan"):
        for tricks in ("[ema]", "[ema,r1]"):
            for batch_size in (64, 256, 1024, 4096):
                for engine in ("eager", "compiled", "captured"):
                    config = compose_run(
                        f"model={model}", f"trick={tricks}", f"data.batch_size={batch_size}", f"engine={engine}", "trainer=gpu"
                    )
                    game = build_game(config, device).to(device)
                    game.on_train_start()
                    iterations(game, config, 100 if engine == "captured" else 20)
                    seconds = statistics.median(iterations(game, config, 50) for _ in range(3))
                    found[f"{model} {tricks} batch {batch_size} {engine}, images/s"] = batch_size / seconds
    for precision in ("fp32", "bf16"):
        for seed in range(3):
            with tempfile.TemporaryDirectory() as scratch:
                settings = ["trainer=gpu", "budget.images=1000000", f"precision={precision}", f"seed={seed}", "logger=none"]
                summary = play(Path(scratch) / "run", *settings)
            found[f"a million images in {precision}, seed {seed}"] = {"seconds": summary["seconds"], "fd": summary["scores"]["fd"]["value"]}
    return found


def quality() -> dict[str, Any]:
    """Seconds until our default recipe reaches the scores of the usual tutorial script."""
    return time_to_quality(play, open_data(compose_run()), PLOT)


MEASUREMENTS = {
    "overhead": overhead,
    "shares": shares,
    "efficiency": efficiency,
    "engines": engines,
    "startup": startup,
    "scaling": scaling,
    "threads": threads,
    "quality": quality,
    "gpu": gpu,
}


def show(results: dict[str, Any]) -> None:
    """Print a table of all results."""
    table = Table(title=f"{results['machine']['processor']}, {results['machine']['threads']} threads, torch {results['machine']['torch']}")
    for title in ("", "median", "least", "most"):
        table.add_column(title, justify="left" if not title else "right")

    def rows(node: dict[str, Any], path: str) -> None:
        for name, value in node.items():
            if isinstance(value, dict) and "median" in value:
                table.add_row(f"{path} {name}", *(f"{value[key]:,.2f}" for key in ("median", "least", "most")))
            elif isinstance(value, dict) and name != "curves":
                rows(value, f"{path} {name}".strip())
            elif name == "precision":
                table.add_row(f"{path} {name}", value)
            elif isinstance(value, float):
                table.add_row(f"{path} {name}", f"{value:,.2f}")

    rows({name: results[name] for name in MEASUREMENTS if name in results}, "")
    Console().print(table)


def processor() -> str:
    """The name of the CPU."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    chosen = sys.argv[1:] or list(MEASUREMENTS)
    unknown = [name for name in chosen if name not in MEASUREMENTS]
    if unknown:
        sys.exit(f"{unknown[0]} is not a measurement; there are {', '.join(MEASUREMENTS)}")
    load = os.getloadavg()[0]
    if load > 0.7:
        print(f"the machine is busy (load {load:.1f}): end other programs for reliable figures", file=sys.stderr)
    configure_process()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["machine"] = {"processor": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    for name in chosen:
        results[name] = MEASUREMENTS[name]()
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    show(results)


if __name__ == "__main__":
    main()
