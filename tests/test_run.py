"""The command line itself, in processes of its own."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TINY = (
    "budget=smoke",
    "hardware=cpu",
    "model.vocab_size=400",
    "algo.prompts_per_iteration=8",
    "algo.micro_batch_size=8",
    "algo.val_prompts=8",
    "data.train_demonstrations=96",
    "data.train_pairs=96",
    "data.val_pairs=48",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def command(*overrides: str, python: Sequence[str] = (sys.executable,)) -> list[str]:
    return [*python, str(ROOT / "run.py"), *overrides]


def environment() -> dict[str, str]:
    drop = ("WANDB_MODE", "WANDB_API_KEY", "HYDRA_FULL_ERROR")
    return {k: v for k, v in os.environ.items() if k not in drop} | {"NETRC": os.devnull}


def run(
    *overrides: str, cwd: Path, ok: bool = True, python: Sequence[str] = (sys.executable,)
) -> subprocess.CompletedProcess:
    done = subprocess.run(
        command(*overrides, python=python),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done


@pytest.fixture
def warm(warm_python) -> Callable[..., subprocess.CompletedProcess]:
    """`run` without the seconds that imports take."""
    return partial(run, python=warm_python)


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        clock = ("time/", "throughput/")
        return [
            {k: v for k, v in row.items() if not k.startswith(clock)}
            for row in csv.DictReader(file)
        ]


def test_the_main_job(cache, tmp_path, warm):
    overrides = (*TINY, f"cache_dir={cache}", "algo=ppo", "model=llama")
    first = run(*overrides, cwd=tmp_path)
    for words in ("sft: trained in", "reward_model: trained in", "before", "after", "wandb sync"):
        assert words in first.stdout
    assert "Traceback" not in first.stderr
    assert "examples/s" not in first.stderr  # a library's progress bar
    (folder,) = (tmp_path / "outputs" / "runs").iterdir()
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["val/kl"] != 0
    # One W&B run for each stage and one for the policy, all of them offline by themselves.
    assert len(list(folder.glob("wandb/offline-run-*/*.wandb"))) == 3

    again = warm(*overrides, cwd=tmp_path)
    assert "sft: reused from" in again.stdout
    assert "reward_model: reused from" in again.stdout


def test_exports_load_with_nothing_but_transformers(cache, tmp_path, warm):
    warm(*TINY, f"cache_dir={cache}", "hydra.run.dir=run", "logger=none", cwd=tmp_path)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    script = f"""
import sys
from transformers import (
    AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
)
for path, kind in (
    ({str(tmp_path / "run" / "model")!r}, AutoModelForCausalLM),
    ({summary["stages/reward_model/path"] + "/model"!r}, AutoModelForSequenceClassification),
):
    tokenizer = AutoTokenizer.from_pretrained(path)
    messages = [dict(role="user", content="Where is the Taj Mahal?")]
    ids = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert kind.from_pretrained(path)(**ids).logits.isfinite().all()
assert not {{"lightning_modules", "harness", "datamodules"}} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_killed_in_the_middle_and_resumed_it_is_as_if_nothing_had_happened(cache, tmp_path):
    overrides = (
        *TINY,
        f"cache_dir={cache}",
        "logger=none",
        "algo.iterations=30",
        "callbacks.checkpoint.every_n_epochs=3",
    )
    run(*overrides, "hydra.run.dir=whole", cwd=tmp_path)
    broken = tmp_path / "broken"
    process = subprocess.Popen(
        command(*overrides, "hydra.run.dir=broken"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
    )
    deadline = time.time() + 120
    while not list(broken.glob("checkpoints/*.ckpt")):
        assert process.poll() is None, "ended before it could be killed"
        assert time.time() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / "summary.json").exists()
    resumed = run(*overrides, "hydra.run.dir=broken", "resume=auto", cwd=tmp_path)
    assert "resumed from" in resumed.stdout
    assert len(rows(broken)) == 30
    assert rows(broken) == rows(tmp_path / "whole")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algo.clip_range=0"], "algo.clip_range=0: must be greater than 0"),
        (["algo.minibatches=7"], "algo.minibatches=7: must divide"),
        (["data=files"], "data.path has no value"),
        (["data=files", "data.path=bad.jsonl"], "bad.jsonl, line 2: not valid JSON"),
        (["data=files", "data.path=[bad.jsonl]"], "bad.jsonl, line 2: not valid JSON"),
        (["data=files", "data.path=2024_01_02"], "error: 2024_01_02: no such file"),
        (["data=files", "data.path=né (1).csv"], "error: né (1).csv: no such file"),
        (["data=files", "data.path=a.csv,b.csv"], "list, 'data.path=[a.csv,b.csv]'"),
        (["data=files", "data.path=[a.csv,b.csv]"], "quote it: 'data.path=\"[a.csv,b.csv]\"'"),
        (["cache_dir=[a,b]"], "cache_dir=[a,b]: must be a name; if it is one, quote it twice: "),
        (
            ["model=pretrained", "model.pretrained=[1]"],
            "quote it twice: 'model.pretrained=\"[1]\"'",
        ),
        (["task=export", "run=[a,b]"], "run=[a,b]: must be a name; if it is one, quote it twice: "),
        (["task=compare", "runs=v[2],(1)"], "runs=v[2],(1): no such folder"),
        (["model=llama_1b"], "model=llama or model=gpt2 need no network"),
        (["resume=nowhere"], "resume=nowhere: no such folder"),
        (["algo.bta=0.1"], "did you mean algo.beta?"),
    ],
)
def test_what_the_user_can_mend_is_one_message(overrides, message, tmp_path, warm):
    (tmp_path / "bad.jsonl").write_text(
        '{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt": \n',
        encoding="utf-8",
    )
    done = warm(*overrides, "hydra.run.dir=run", cwd=tmp_path, ok=False)
    assert message in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "outputs").exists()


def test_help_shows_the_groups_with_examples(tmp_path, warm):
    text = warm("--help", cwd=tmp_path).stdout
    for words in ("python run.py algo=ppo model=llama", "reward_model", "llama_1b", "data=files"):
        assert words in text


SWEEP = ("-m", *TINY, "reward=gold", "logger=none", "algo.iterations=2")


def jobs(folder: Path) -> list[dict]:
    found = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*/job.json")]
    return sorted(found, key=lambda job: job["number"])


def statuses(folder: Path) -> list[str]:
    return [job["status"] for job in jobs(folder)]


@pytest.mark.slow
def test_a_sweep_outlives_a_failed_job_and_does_only_that_one_again(cache, tmp_path, warm):
    options = (*SWEEP, f"cache_dir={cache}", "hydra.sweep.dir=sweep")
    first = warm(*options, "algo.clip_range=0.1,-1,0.3", cwd=tmp_path, ok=False)
    assert statuses(tmp_path / "sweep") == ["done", "failed", "done"]
    assert "job 1 failed: algo.clip_range=-1: must be greater than 0" in first.stdout
    failed = tmp_path / "sweep" / "1_ppo_llama_landmarks_seed0"
    assert (
        "algo.clip_range=-1"
        in json.loads((failed / "failed.json").read_text(encoding="utf-8"))["overrides"]
    )
    assert "OptionError" in (failed / "traceback.txt").read_text(encoding="utf-8")

    warm(*options, "algo.clip_range=0.1,0.2,0.3", cwd=tmp_path)
    assert statuses(tmp_path / "sweep") == ["skipped", "done", "skipped"]
    assert not (failed / "failed.json").exists()
    logs = (log.read_text(encoding="utf-8") for log in (tmp_path / "sweep").glob("*/run.log"))
    assert sum(log.count("# began ") for log in logs) == 3, "two are trained before, one now"
    for job in jobs(tmp_path / "sweep"):
        summary = json.loads((Path(job["run"]) / "summary.json").read_text(encoding="utf-8"))
        assert job["value"] == summary["val/score"]


@pytest.mark.slow
def test_a_killed_sweep_started_again_in_another_folder_loses_nothing(cache, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    options = (
        *SWEEP,
        f"cache_dir={cache}",
        "algo.iterations=20",
        "callbacks.checkpoint.every_n_epochs=1",
        "sweep=joblib",
        "hydra.launcher.n_jobs=2",
        "seed=1,2",
    )
    process = subprocess.Popen(
        command(*options),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    sweeps = tmp_path / "outputs" / "sweeps"
    deadline = time.time() + 200
    while not list(sweeps.glob("*/*/checkpoints/*.ckpt")):
        assert process.poll() is None, "ended before it could be killed"
        assert time.time() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)  # its workers too; as orphans they would finish
    process.wait()
    (killed,) = sweeps.iterdir()

    done = run(*options, cwd=tmp_path)
    (again,) = set(sweeps.iterdir()) - {killed}
    continued = [job for job in jobs(again) if job["status"] == "continued"]
    assert continued
    for job in continued:
        run_folder = Path(job["run"])
        assert run_folder.parent == killed
        (pointer,) = again.glob(f"{job['number']}_*/skipped.json")
        assert json.loads(pointer.read_text(encoding="utf-8"))["run"] == str(run_folder)
        assert [int(row["step"]) for row in rows(run_folder)] == list(range(1, 21))
    printed = [file.read_text(encoding="utf-8") for file in again.glob("*/output.txt")]
    assert any("resumed from" in text for text in printed)
    assert "what the numbers mean" not in done.stdout, "jobs side by side print into files"


@pytest.mark.slow
def test_runs_and_sweeps_that_start_in_one_second_tell_the_truth(cache, tmp_path, warm_python):
    """Each process has folders of its own, and every number is that of the options beside it."""
    options = (*TINY, "reward=gold", "logger=none", "algo.iterations=2", f"cache_dir={cache}")
    singles = [f"algo.beta=0.{i}" for i in range(1, 4)] * 2  # also two of the very same options
    sweeps = ["algo.beta=0.1,0.5", "algo.beta=0.6,0.7", "algo.beta=0.6,0.7"]
    commands = [command(*options, o, python=warm_python) for o in singles]
    commands += [command("-m", *options, o, python=warm_python) for o in sweeps]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    running = [
        subprocess.Popen(c, cwd=tmp_path, env=environment() | {"OMP_NUM_THREADS": "1"}, **quiet)
        for c in commands
    ]
    assert [(p.communicate()[1], p.returncode) for p in running] == [("", 0)] * len(running)
    outputs = tmp_path / "outputs"
    assert sorted(beta_of(folder) for folder in (outputs / "runs").iterdir()) == sorted(singles)
    asked = []
    for sweep in (outputs / "sweeps").iterdir():
        betas = []
        for job in jobs(sweep):
            (beta,) = (o for o in job["overrides"] if "beta" in o)
            assert beta_of(Path(job["run"])) == beta
            assert job["value"] == float(rows(Path(job["run"]))[-1]["val/score"])
            betas.append(beta)
        asked.append(betas)
    assert sorted(asked) == sorted([[f"algo.beta={b}" for b in s[10:].split(",")] for s in sweeps])


def beta_of(folder: Path) -> str:
    """The option that a finished run had; whatever is written of it agrees."""
    state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    beta = f"algo.beta={state['config']['algo']['beta']}"
    assert f"- {beta}\n" in (folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    last = rows(folder)[-1]
    assert summary["val/score"] == float(last["val/score"])
    assert summary["val/reward"] == float(last["val/reward"])
    return beta


@pytest.mark.slow
def test_a_sweep_trains_anew_what_it_finds_on_other_data(tmp_path, warm):
    pairs = tmp_path / "pairs.jsonl"
    row = '{"prompt": "Why %d?", "chosen": "Because of it.", "rejected": "No %s."}\n'
    pairs.write_text("".join(row % (i, "way") for i in range(30)), encoding="utf-8")
    options = ("-m", "hardware=cpu", "model.vocab_size=400", "algo=sft", "algo.epochs=1", "seed=1")
    options += ("data=files", f"data.path={pairs}", "logger=none", "sweep.objective=val/loss")
    warm(*options, cwd=tmp_path)
    pairs.write_text("".join(row % (i, "at all") for i in range(40)), encoding="utf-8")
    again = warm(*options, cwd=tmp_path)
    assert "is on other inputs: data" in again.stdout
    third = warm(*options, cwd=tmp_path)
    assert "job 0 was finished before" in third.stdout
    (told,) = re.findall(r"was finished before:\s+(\S+)", third.stdout)
    (tmp_path / told / "summary.json").write_text("{", encoding="utf-8")
    fourth = " ".join(warm(*options, cwd=tmp_path).stdout.split())  # however its lines are broken
    assert re.search(r"left out: \S+/summary.json: is damaged", fourth)
    found = [jobs(sweep)[0]["status"] for sweep in sorted((tmp_path / "outputs/sweeps").iterdir())]
    assert found == ["done", "done", "skipped", "done"]


@pytest.mark.slow
def test_a_failed_trial_does_not_end_a_study(cache, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    run(
        *SWEEP,
        f"cache_dir={cache}",
        "sweep=optuna",
        "hydra.sweep.dir=study",
        "hydra.sweeper.n_trials=4",
        "algo.beta=0.1",
        "algo.optimizer.lr=1e-3",
        "algo.clip_range=choice(-1.0,0.2)",
        cwd=tmp_path,
        ok=False,
    )
    assert set(statuses(tmp_path / "study")) == {"done", "skipped", "failed"}
    assert "best_value" in (tmp_path / "study" / "optimization_results.yaml").read_text(
        encoding="utf-8"
    )


def test_a_sweep_of_several_devices_is_refused_with_the_way_to_do_it(tmp_path, warm):
    done = warm("-m", "hardware=ddp", "seed=1,2", cwd=tmp_path, ok=False)
    assert "for seed in 1 2 3; do python run.py hardware=ddp" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_names_are_taken_as_they_are_typed(tmp_path, warm):
    """Files, folders, cache and run, of names that Hydra, globs and YAML would read otherwise."""
    pairs = [
        {"prompt": f"What is {i}?", "chosen": "A number.", "rejected": "A word."} for i in range(24)
    ]
    folder = tmp_path / "v[2], é=(1)"
    folder.mkdir()
    (folder / "2024_01_02.jsonl").write_text(
        "\n".join(map(json.dumps, pairs[:12])), encoding="utf-8"
    )
    (folder / "b,c.json").write_text(json.dumps(pairs[12:]), encoding="utf-8")
    done = warm(
        *("algo=reward_model", "data=files", "data.path=v[2], é=(1)", "logger=none"),
        *("algo.epochs=1", "stages.sft.epochs=1", "hardware=cpu"),
        *("cache_dir=1e3", "hydra.run.dir=0x10/$a #1, [3]", "model.vocab_size=400"),
        cwd=tmp_path,
    )
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0x10", "1e3", "v[2], é=(1)"]
    out = tmp_path / "0x10" / "$a #1, [3]"
    config = json.loads((out / "run.json").read_text(encoding="utf-8"))["config"]
    assert (config["data"]["path"], config["cache_dir"]) == ("v[2], é=(1)", "1e3")
    assert (out / "model" / "config.json").is_file()
