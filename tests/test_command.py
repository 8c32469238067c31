"""The entry scripts as a user meets them: help, mistakes, exit codes, and files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from helpers import commands
from helpers.games import PROJECT, SMALL, WIDTHS, Record
from twoplayer.commands.words import refuse_words
from twoplayer.errors import ConfigurationError

pytestmark = pytest.mark.process

TINY = ["model=gan", *SMALL, *WIDTHS["gan"], "budget.images=64"]

ONE = {
    "loss=hing": "loss=hing: hing is not a choice of loss; did you mean hinge?",
    "trick=[emma]": "emma is not a choice of trick; did you mean ema?",
    "'trick=[ema,nothing]'": "write an override as name=value",
    "modle=gan": "modle is not a setting; did you mean model",
    "loss.margn=1": "loss.margn is not a setting",
    "optimizer.generator.rl=1": "did you mean optimizer.generator.lr",
    "experiment=wgn": "wgn is not a choice of experiment; did you mean wgan or rwgan?",
    "trick.r1.weight=3": "choose it with 'trick=[r1]'",
    "trick=[ema,wgan_gp] trick.wgan_gp.weigth=5": "did you mean trick.wgan_gp.weight?",
    "trick=[ema] trick.ema.half_lief=3": "did you mean trick.ema.half_life_images or",
    "model=gan model.generator.wdths=[3]": "did you mean model.generator.widths or",
    "seed=one": "seed=one: must be a whole number",
    "+budget.epochs=3": "budget.epochs is not a setting",
    "trick=[ema": "override",
    "seed": "override",
    "model=gna": "gna is not a choice of model; did you mean gan",
    "data=mnst": "mnst is not a choice of data; did you mean mnist?",
    "logger=wanb": "wanb is not a choice of logger; did you mean wandb",
    "metric=fid": "fid is not a choice of metric; did you mean inception (FID)?",
    "trainer=gpus": "gpus is not a choice of trainer; did you mean gpu",
    "optimizer/player@optimizer.generator=adm": "adm is not a choice of optimizer/player; did you mean adam",
    "+unknown=1": "unknown is not a setting",
    "+lrr=1": "lrr is not a setting",
    "seed=-1": "seed=-1: must be greater than or equal to 0",
    "seed=1.5": "seed=1.5: must be a whole number",
    "seed=null": "seed=null: must be a whole number",
    "budget.images=0": "budget.images=0: must be greater than 0",
    "budget.images=many": "budget.images=many: must be a whole number",
    "budget.seconds=-1": "budget.seconds=-1: must be greater than 0",
    "budget=3": "this is a group of settings; set one of budget.images",
    "checkpoint.every_images=-5": "checkpoint.every_images=-5: must be greater than 0",
    "checkpoint.every_sceonds=5": "did you mean checkpoint.every_seconds",
    "data.batch_size=0": "data.batch_size=0: must be greater than or equal to 1",
    "data.batch_size=abc": "data.batch_size=abc: must be a whole number",
    "data.classes=[3,12]": "there is no class 12",
    "data.classes=[]": "data.classes=[]: ",
    "data.num_images=100000": "there are only 60,000 training images",
    "data.image_size=30": "model=dcgan takes 16, 28",
    "optimizer.generator.lr=abc": "optimizer.generator.lr=abc: must be a number",
    "optimizer.generator.lr=-1": "optimizer.generator.lr=-1: must be greater than 0",
    "optimizer.generator.lr=nan": "optimizer.generator.lr=nan: must be",
    "optimizer.discriminator.beta1=1": "must be less than 1",
    "trick=[ema] trick.ema.half_life_images=0": "trick.ema.half_life_images=0: must be greater than 0",
    "trick=[r1] trick.r1.every_updates=0": "trick.r1.every_updates=0: must be greater than or equal to 1",
    "model.generator.normalization=bach": "must be 'batch'",
    "model.generator.width=0": "model.generator.width=0: must be greater than or equal to 1",
    "engine=fast": "engine=fast: must be",
    "precision=fp16": "precision=fp16: must be",
    "debug=maybe": "debug=maybe: must be true or false",
    "trainer.devices=3": "divisible by the number of ranks, 3",
    "trainer.accelerator=tpu": "trainer.accelerator=tpu: must be",
    "loss=wasserstein trick=[label_smoothing]": "has no labels",
    "model=gan model.generator.normalization=instance": "instance",
    "resume=nothing.ckpt": "resume=nothing.ckpt: there is no such file",
    "init_from=nothing": "init_from=nothing: there is no checkpoint",
    "loss._target_=os.system": "must be a subclass of twoplayer.losses.base.Loss",
    "~loss": "loss is missing",
    "callbacks.samples.num=0": "callbacks.samples.num=0: must be greater than or equal to 1",
    "run=null": "run=null: must be text",
    "run=": "run=: must be text that is not empty",
    "resume=": "resume=: use resume=auto",
    "init_from=": "init_from=: must be text that is not empty",
    "data.root=": "data.root=: must be text that is not empty",
    "seed=": "seed=: must be a whole number",
    "run=/proc/nope/run": "run=/proc/nope/run: cannot create this folder (No such file or directory)",
    "run=data/MNIST/raw/t10k-labels-idx1-ubyte": "cannot create this folder (File exists)",
    "trick=[ema,ema]": "trick=[ema,ema]: ema is named twice",
    "trick=null": "trick=null: must be one of ada",
    "data=null": "data=null: must be one of fashion_mnist, mnist",
    "model=null": "model=null: must be one of dcgan, gan",
    "model=": "model=: must be one of dcgan, gan",
    "loss=null": "loss=null: must be one of boundary_equilibrium",
    "loss=[hinge,minimax]": "loss=[hinge,minimax]: takes one choice",
    "optimizer/player@optimizer.generator=null": "must be one of adam",
    "+search=default": "this is a sweep, which needs -m",
    "+search=default --cfg job -m": "--cfg and -m: use only one of these",
    "lr=1e-3": "lr=1e-3: use optimizer.generator.lr=1e-3 optimizer.discriminator.lr=1e-3",
    "--lr 1e-3": "--lr 1e-3: use optimizer.generator.lr=1e-3",
    "lr_d=1e-3": "use optimizer.discriminator.lr=1e-3",
    "+batch_size=32": "use data.batch_size=32",
    "--batch-size 32": "use data.batch_size=32",
    "epochs=5": "use budget.images=300000 (5 epochs of 60,000 images)",
    "--epochs 5": "use budget.images=300000",
    "max_epochs=2 data.num_images=1000": "use budget.images=2000",
    "num_epochs=1 data.classes=[3,7]": "use budget.images=<epochs times the images of one>",
    "epochs=inf": "use budget.images=<epochs",
    "epochs=-1": "use budget.images=<epochs",
    "iterations=10 batch_size=32": "use budget.images=320 (10 iterations of 32 images)",
    "loss=hinge,minimax": "several values are a sweep, which needs -m: python src/train.py -m loss=hinge,minimax",
    "trick=ema,r1": "to choose several at once, write 'trick=[ema,r1]'",
    "trick=[wgan_gp,mmd_gp] loss=wasserstein": "leave one of them out",
    "epochs=many": "use budget.images=<epochs",
    "steps=10 data.batch_size=128": "use budget.images=1280 (10 iterations of 128 images)",
    "iterations=10": "use budget.images=640",
    "dataset=fashion_mnist": "use data=fashion_mnist",
    "gpus=2": "use trainer=gpu trainer.devices=2",
    "devices=2": "use trainer.devices=2",
    "device=cuda": "use trainer=gpu",
    "device=cpu": "use trainer=cpu",
    "device=0": "use trainer=gpu",
    "optim=sgd": "use optimizer=sgd",
    "nz=100": "use model.generator.latent_size=100",
    "resume=true": "use resume=auto",
    "--resume x.ckpt": "write settings as name=value: resume=x.ckpt",
    "--seed 3": "write settings as name=value: seed=3",
    "lr=1 bs=2": "discriminator.lr=1; bs=2: use data.batch_size=2",
}  # fmt: skip
SWEEPS = {
    "seed=0,1 loss=hinge,hing": "hing is not a choice of loss",
    "seed=0,-1": "seed=-1",
    "loss=hinge,wasserstein trick=[label_smoothing]": "has no labels",
    "seed=0,1 modle=gan": "modle is not a setting",
    "seed=0,1 +lrr=1": "lrr is not a setting",
    "trick=[ema],[emma]": "emma is not a choice of trick",
    "model=dcgan,gna": "gna is not a choice of model",
    "data.batch_size=16,0": "data.batch_size=0: must be",
    "optimizer.generator.lr=1e-3,abc": "optimizer.generator.lr=abc: must be a number",
    "optimizer.generator.lr=1e-3,-1": "optimizer.generator.lr=-1: must be",
    "budget.images=100,none": "budget.images=none: must be",
    "trick=[ema] trick.ema.half_life_images=100,0": "trick.ema.half_life_images=0: must be",
    "trainer.devices=1,3": "divisible by the number of ranks, 3",
    "engine=eager,fast": "engine=fast: must be",
    "precision=fp32,fp16": "precision=fp16: must be",
    "data.image_size=28,30": "model=dcgan takes",
    "data.classes=[1],[12]": "there is no class 12",
    "seed=0,1 trick.r1.weight=3": "choose it with",
    "seed=0,1 resume=auto": "set sweep=<its folder>",
    "seed=0,1 resume=x.ckpt": "a checkpoint belongs to one run",
    "seed=0,1 init_from=nothing": "there is no checkpoint",
    "logger=csv,wanb": "wanb is not a choice of logger",
    "seed=0,one": "seed=one: must be a whole number",
    "checkpoint.every_seconds=60,-1": "checkpoint.every_seconds=-1: must be",
    "debug=true,maybe": "debug=maybe: must be",
    "seed=0,1 loss.margn=1": "loss.margn is not a setting",
    "experiment=dcgan,dcgann": "dcgann is not a choice of experiment",
    "seed=0,1 budget=3": "this is a group of settings",
    "seed=0,1 callbacks.samples.num=0": "callbacks.samples.num=0: must be",
    "seed=0,1 sweep=/proc/nope": "sweep=/proc/nope: cannot create this folder",
    "seed=0,1 sweep=": "sweep=: must be text that is not empty",
    "trick=[ema],[r1,r1]": "trick=[r1,r1]: r1 is named twice",
    "loss=hinge,null": "loss=null: must be one of boundary",
    "model=[gan],dcgan": "model=[gan]: takes one choice",
    "lr=1e-3,1e-4": "use optimizer.generator.lr=1e-3,1e-4",
    "seed=0,1 epochs=5": "use budget.images=300000",
}  # fmt: skip
MISTAKES = [*(([], words, message) for words, message in ONE.items()), *((["-m"], words, message) for words, message in SWEEPS.items())]


@pytest.mark.parametrize("share", [pytest.param(1, marks=pytest.mark.slow), 12])
def test_a_mistake_costs_one_line(share: int, tmp_path: Path, data_root: str, record: Record) -> None:
    wrong: list[str] = []
    tried = MISTAKES[::share]
    (tmp_path / "data").symlink_to(data_root)
    for start, words, message in tried:
        finished = commands.run("train.py", *start, *words.split(" "), folder=tmp_path)
        lines = finished.errors.strip().splitlines()
        folders = sorted(path.name for path in tmp_path.iterdir()) != ["data"]
        if finished.code != 2 or len(lines) != 1 or not lines[0].startswith("error: ") or message not in lines[0] or folders:
            wrong.append(f"{start} {words}: {finished}")
    record("P8", "malformed calls, a third of them sweeps", len(tried), len(tried) - len(wrong))
    assert not wrong, "\n".join(wrong)


def test_a_rank_of_a_job_of_a_search_is_no_sweep() -> None:
    refuse_words("train", ["+search=tricks", "loss=hinge", "run='here'", "hydra.mode=RUN", "hydra.output_subdir=null"])
    with pytest.raises(ConfigurationError, match="this is a sweep, which needs -m"):
        refuse_words("train", ["+search=tricks", "loss=hinge"])


def test_an_unknown_name_is_told_without_loading_torch(tmp_path: Path) -> None:
    for mistake in ("loss=hing", "modle=gan"):
        script = f"import sys, runpy; sys.argv = ['{PROJECT / 'src' / 'train.py'}', '{mistake}']\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\nexcept SystemExit as end: print(end.code, bool({{'torch', 'scipy'}} & {{*sys.modules}}))"
        finished = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert finished.stdout.split() == ["2", "False"], mistake


def test_broken_data_are_named_before_a_folder_is_made(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train-images-idx3-ubyte").write_bytes(b"not an image")
    finished = commands.run("train.py", "data.root=mine", folder=tmp_path)
    assert finished.code == 3
    assert "mine/train-images-idx3-ubyte" in finished.errors
    assert len(finished.errors.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_folder_of_photographs_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "IMG_1.jpg").write_bytes(b"a picture")
    finished = commands.run("train.py", "data.root=photographs", folder=tmp_path)
    assert finished.code == 3
    assert "data.root=photographs: there is no MNIST here; for images of your own set data=image_folder" in finished.errors
    assert len(finished.errors.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["photographs", "IMG_1.jpg"]


def test_wandb_online_without_a_key_is_refused(tmp_path: Path) -> None:
    finished = commands.run(
        "train.py", "logger=wandb_online", f"data.root={PROJECT / 'data'}", folder=tmp_path, WANDB_API_KEY="", NETRC=str(tmp_path / "none")
    )
    assert finished.code == 2
    assert "WANDB_API_KEY" in finished.errors
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("train.py", ["python src/train.py", "trick:", "budget.images"]),
        ("sample.py", ["run=<run folder>", "num: 64               # number of samples", "run: (required)       # a run folder"]),
        ("study.py", ["python src/study.py study=losses", "sweep: outputs/study_<study>", "study: losses, tips, tricks"]),
    ],
)
def test_help_is_a_page_to_act_on(script: str, expected: list[str], tmp_path: Path) -> None:
    finished = commands.run(script, "--help", folder=tmp_path)
    assert finished.code == 0
    assert all(text in finished.output for text in expected)
    assert len(finished.output.splitlines()) < 50


def test_a_run_leaves_what_it_promises(tmp_path: Path) -> None:
    finished = commands.run("train.py", *TINY, "trick=[ema]", "logger=tensorboard", folder=tmp_path)
    assert finished.code == 0, finished.errors
    (folder,) = tmp_path.glob("outputs/*/*")
    assert folder.name.endswith("_gan_non_saturating_ema_s0")
    names = {path.name for path in folder.iterdir()}
    assert {".hydra", "config.yaml", "train.log", "metrics.csv", "summary.json", "samples", "checkpoints", "tensorboard"} <= names
    assert [path.name for path in sorted((folder / "samples").iterdir())] == [
        "00000000.png",
        "00000064.png",
        "progress.gif",
        "progress.png",
        "real.png",
    ]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert (summary["images_seen"], summary["iterations"], summary["seed"], summary["world_size"]) == (64, 4, 0, 1)
    assert summary["scores"] == {}
    assert summary["segments"] == [{"resumed_from": 0, "trained": 64}]
    assert summary["num_parameters"]["generator"] == sum((16 * 16 + 16, 16 * 32 + 32, 32 * 64 + 64, 64 * 256 + 256))
    assert summary["images_per_second"] == pytest.approx(64 / summary["seconds"])
    assert "tricks ema" in finished.output
    assert str(folder.relative_to(tmp_path)) in finished.output


def test_wasserstein_without_a_bound_warns(tmp_path: Path) -> None:
    finished = commands.run("train.py", *TINY, "loss=wasserstein", "run=here", folder=tmp_path)
    assert finished.code == 0
    assert "set 'trick=[wgan_gp]'" in finished.output
    bounded = commands.run("train.py", *TINY, "loss=wasserstein", "trick=[wgan_gp]", "run=there", folder=tmp_path)
    assert "add trick" not in bounded.output


def test_a_failing_job_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    fail = ["+callbacks.fail={_target_:helpers.rank_callbacks.Fail}", "sweep=here", "logger=wandb"]
    finished = commands.run("train.py", "-m", *TINY, "loss=hinge,minimax", *fail, folder=tmp_path, FAIL_ON_LOSS="Hinge")
    assert finished.code == 1
    assert "fails on purpose" in finished.errors
    statuses = [
        json.loads((tmp_path / "here" / name / "summary.json").read_text())["status"]
        for name in ("0_gan_hinge_plain_s0", "1_gan_minimax_plain_s0")
    ]
    assert statuses == ["failed", "finished"]
    assert finished.output.splitlines()[-3] == "next", "the table is shown nevertheless"
    assert any(line.split()[:2] == ["loss=hinge", "failed"] for line in finished.output.splitlines())
    runs = [
        next((tmp_path / "here" / name / "wandb").glob("offline-run-*/*.wandb"))
        for name in ("0_gan_hinge_plain_s0", "1_gan_minimax_plain_s0")
    ]
    assert runs[0].name != runs[1].name


def test_not_finite_numbers_end_the_run_with_their_own_code(tmp_path: Path) -> None:
    finished = commands.run(
        "train.py",
        *TINY,
        "optimizer/player@optimizer.discriminator=sgd",
        "optimizer.discriminator.lr=1e30",
        "callbacks.scalars.every_iterations=2",
        "run=here",
        folder=tmp_path,
    )
    assert finished.code == 4
    assert "not finite" in finished.errors
    assert "Traceback" not in finished.errors
    assert json.loads((tmp_path / "here" / "summary.json").read_text())["status"] == "failed"
    assert not (tmp_path / "here" / "checkpoints").exists()


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    assert commands.run("train.py", *TINY, "run=here", folder=tmp_path).code == 0
    before = (tmp_path / "here" / "summary.json").read_text()
    finished = commands.run("train.py", *TINY, "run=here", folder=tmp_path)
    assert finished.code == 2
    assert "this folder already contains a run" in finished.errors
    assert (tmp_path / "here" / "summary.json").read_text() == before


def test_samples_of_a_finished_run(tmp_path: Path) -> None:
    assert commands.run("train.py", *TINY, "run=here", folder=tmp_path).code == 0
    finished = commands.run("sample.py", "run=here", "num=12", "single_files=true", "safetensors=true", folder=tmp_path)
    assert finished.code == 0, finished.errors
    folder = tmp_path / "here" / "generated"
    images = load_file(folder / "seed0_12.safetensors")["images"]
    assert images.shape == (12, 1, 16, 16)
    singles = sorted((folder / "seed0").iterdir())
    assert len(singles) == 12
    assert np.array_equal(np.asarray(Image.open(singles[5])), images[5, 0])
    assert (folder / "seed0_12.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run is missing"),
        (["run=nothing"], "there is no checkpoint in this folder"),
        (["run=x", "num=0"], "num=0: must be greater than 0"),
        (["rnu=x"], "did you mean run"),
        (["--num", "64"], "write settings as name=value: num=64"),
    ],
)
def test_mistakes_in_sampling_cost_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    finished = commands.run("sample.py", *arguments, folder=tmp_path)
    assert finished.code == 2
    assert message in finished.errors
    assert len(finished.errors.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
