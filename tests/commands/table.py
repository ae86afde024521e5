"""What the documents' commands need to run here, and which of them cannot."""

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """Why a command cannot run here; where `module` is given, it runs if that is installed."""

    what: str
    module: str | None = None

    def met(self) -> bool:
        return self.module is not None and importlib.util.find_spec(self.module) is not None


@dataclass(frozen=True)
class Long:
    """What takes minutes at any budget: `python -m tests.commands` runs it, the tests do not."""


GPU = Needs("a GPU")
ENDPOINT = Needs("a model that is served")
NETWORK = Needs("a network")
ACCOUNT = Needs("an account of W&B")
WHOLE_SUITE = Needs("the time of all tests, which run these commands one by one")
OWN_TEST = Needs("minutes; a test of its own runs it")
BITSANDBYTES = Needs("the extra [qlora]", "bitsandbytes")
OPTUNA = Needs("a plugin", "hydra_plugins.hydra_optuna_sweeper")
JUDGE = Needs("a judge; tests/harness/tasks/test_judge.py runs it with one")
PEOPLE = Needs("people in front of a browser; tests/harness/web has scripted ones")
TRL = Needs("TRL, and data of its own size")
OWN_SWEEPS = Needs("the two sweeps before it")
TINY_TEST = Needs("minutes; tests/benchmarks runs it at toy size")

# By document and command, as `documents.typed` has it.
EXCEPTIONS: dict[tuple[str, str], Needs | Long] = {
    ("README.md", ".venv/bin/python -m pytest"): WHOLE_SUITE,
    ("CONTRIBUTING.md", ".venv/bin/python -m pytest"): WHOLE_SUITE,
    ("CONTRIBUTING.md", ".venv/bin/python -m pytest -n0 tests/exact"): WHOLE_SUITE,
    ("CONTRIBUTING.md", "python -m tests.commands"): WHOLE_SUITE,
    ("CONTRIBUTING.md", "python -m tests.mutations --write docs/mutations.md"): OWN_TEST,
    ("CONTRIBUTING.md", "python -m tests.real_model"): NETWORK,
    ("comparing.md", "python run.py task=compare runs=outputs/sweeps publish=true"): ACCOUNT,
    ("README.md", "python run.py task=label items=answers/answers.jsonl"): PEOPLE,
    ("README.md", "python run.py task=judge items=answers/answers.jsonl judge.model=./my_judge"): (
        JUDGE
    ),
    (
        "feedback.md",
        "python run.py task=label items=first_answers/answers.jsonl store=first_labels",
    ): PEOPLE,
    ("feedback.md", "python run.py task=label store=first_labels export=my_pairs.jsonl"): PEOPLE,
    (
        "feedback.md",
        "python run.py algo=ppo model=smollm_135m adapter=lora data=files data.path=my_pairs.jsonl"
        " budget=quick",
    ): PEOPLE,
    (
        "feedback.md",
        "python run.py task=judge items=first_answers/answers.jsonl"
        " judge.base_url=http://127.0.0.1:8000/v1 judge.model=my-judge hydra.run.dir=first_labels",
    ): JUDGE,
    (
        "feedback.md",
        "python run.py algo=ppo model=smollm_135m adapter=lora data=files"
        " data.path=first_labels/pairs.jsonl budget=quick",
    ): JUDGE,
    ("feedback.md", "python run.py task=label items=answers.jsonl"): PEOPLE,
    ("feedback.md", "python run.py task=label export=pairs.jsonl"): PEOPLE,
    (
        "feedback.md",
        "python run.py algo=ppo stages.reward_model.loss=thumbs data.train_pairs=0 data.val_pairs=0"
        " data.train_thumbs=16000 data.val_thumbs=3000",
    ): Long(),
    (
        "feedback.md",
        "python run.py algo=rloo reward=people model=smollm_135m adapter=lora data=files"
        " data.path=pairs.jsonl algo.prompts_per_iteration=2 algo.samples_per_prompt=4"
        " algo.iterations=5 algo.val_prompts=4 algo.evaluate_every=5",
    ): PEOPLE,
    (
        "feedback.md",
        "python run.py task=judge items=answers.jsonl judge.model=./my_judge",
    ): JUDGE,
    (
        "feedback.md",
        "python run.py task=judge items=answers.jsonl judge=helpful"
        " judge.base_url=http://127.0.0.1:8000/v1 judge.model=my-judge",
    ): JUDGE,
    (
        "feedback.md",
        "python run.py task=judge data=files data.path=pairs.jsonl pairs=500"
        " judge.model=./my_judge",
    ): JUDGE,
    (
        "feedback.md",
        "python run.py task=evaluate policy=<run> judge=helpful judge.model=./my_judge",
    ): JUDGE,
    (
        "feedback.md",
        "python run.py task=evaluate policy=<run> against=<run> judge=pairwise"
        " judge.base_url=http://127.0.0.1:8000/v1 judge.model=my-judge",
    ): JUDGE,
    (
        "feedback.md",
        "python run.py reward=judge judge=helpful judge.base_url=http://127.0.0.1:8000/v1"
        " judge.model=some-model",
    ): ENDPOINT,
    ("feedback.md", "python run.py task=rounds labels=people pairs=40"): Needs("people who label"),
    (
        "feedback.md",
        "python run.py -m task=rounds experiment=rounds rounds=1 pairs=600 algo.iterations=30"
        " seed=1,2,3 hydra.sweep.dir=outputs/sweeps/one",
    ): Long(),
    (
        "feedback.md",
        "python run.py -m task=rounds experiment=rounds rounds=3 pairs=200 algo.iterations=10"
        " seed=1,2,3 hydra.sweep.dir=outputs/sweeps/three",
    ): Long(),
    (
        "feedback.md",
        "python benchmarks/rounds.py outputs/sweeps/one outputs/sweeps/three --picture rounds.png",
    ): OWN_SWEEPS,
    ("lecture.md", "python run.py -m experiment=ladder seed=1,2,3"): Long(),
    ("models.md", "python -m tests.real_model"): NETWORK,
    ("mutations.md", "python -m tests.mutations"): OWN_TEST,
    ("mutations.md", "python -m tests.mutations --write docs/mutations.md"): OWN_TEST,
    ("performance.md", "bash benchmarks/gpu_prepare.sh"): NETWORK,
    ("performance.md", "bash benchmarks/gpu.sh"): GPU,
    ("performance.md", "bash benchmarks/gpu.sh --tiny sampling update"): Long(),
    ("performance.md", "python run.py algo=ppo model=llama hardware=gpu logger=none"): GPU,
    ("performance.md", "REAL_MODEL=<folder> bash benchmarks/gpu.sh real"): GPU,
    ("performance.md", "python benchmarks/policy.py ppo"): TINY_TEST,
    ("performance.md", "python benchmarks/policy.py rloo"): TINY_TEST,
    ("performance.md", "python benchmarks/policy.py quality"): TINY_TEST,
    (
        "performance.md",
        "python benchmarks/policy.py real --model <folder> --against <checkout>",
    ): TINY_TEST,
    ("performance.md", "python benchmarks/policy.py memory --model <folder>"): TINY_TEST,
    ("performance.md", "python benchmarks/sampling.py"): TINY_TEST,
    ("performance.md", "python benchmarks/memory.py"): TINY_TEST,
    ("performance.md", "python benchmarks/log_probs.py"): TINY_TEST,
    (
        "large_models.md",
        "python run.py model=pretrained model.pretrained=./my_model adapter=qlora data=files"
        " data.path=pairs.jsonl",
    ): BITSANDBYTES,
    (
        "reward_models.md",
        "python run.py algo=reward_model data=ultrafeedback model=smollm_135m adapter=lora"
        " hardware=gpu",
    ): GPU,
    (
        "reward_models.md",
        "python benchmarks/reward_model.py speed --data alpaca_eval_train.jsonl.gz --pairs 192",
    ): TRL,
    (
        "reward_models.md",
        "python benchmarks/reward_model.py accuracy --data train.jsonl.gz --val test.jsonl.gz"
        " --model <that run>/model --max-prompt-tokens 64 --max-response-tokens 48",
    ): TRL,
    ("runs.md", "python -m tests.kills --kills 20 --seed 0 --folder kills"): OWN_TEST,
    ("runs.md", "python -m tests.full_disks --folder full"): OWN_TEST,
    ("runs.md", "wandb login"): ACCOUNT,
    (
        "sweeps.md",
        "for seed in 1 2 3; do python run.py hardware=ddp seed=$seed; done",
    ): Needs("several GPUs; tests/harness/pipeline/test_ddp.py has two processes on a CPU"),
    ("sweeps.md", "python run.py -m sweep=optuna"): OPTUNA,
    (
        "sweeps.md",
        "python run.py -m sweep=optuna sweep.objective=val/reward algo.beta=0.1"
        " 'algo.lam=interval(0.8,1)' hydra.sweeper.n_trials=20",
    ): OPTUNA,
    (
        "sweeps.md",
        "python run.py -m sweep=optuna hydra/launcher=joblib hydra.sweeper.n_jobs=4",
    ): OPTUNA,
    ("starting.md", "rlhf-ladder -sc install=fish | source"): Needs("the shell fish"),
    ("verification.md", "python -m pytest tests/exact --write-figures && python docs/build.py"): (
        WHOLE_SUITE
    ),
    ("verification.md", "python -m tests.mutations"): OWN_TEST,
    ("verification.md", "ATEN_CPU_CAPABILITY=default python -m pytest"): WHOLE_SUITE,
    (
        "verification.md",
        "python -m pytest -p tests.another_cpu tests/properties tests/lightning_modules",
    ): WHOLE_SUITE,
    ("verification.md", "python -m pytest -p tests.large_models tests/exact"): WHOLE_SUITE,
    ("verification.md", "python -m pytest tests/oracles"): WHOLE_SUITE,
    ("wandb.md", "wandb login"): ACCOUNT,
    ("wandb.md", "wandb sync"): ACCOUNT,
}

# What stands for a name of the reader's own.
NEWEST_RUN = "$(dirname $(ls -td outputs/runs/*/checkpoints | head -1))"
NEWEST_CHECKPOINT = "$(basename -s .ckpt $(ls -t outputs/runs/*/checkpoints/*.ckpt | head -1))"
NEWEST_REWARD_MODEL = "$(ls -td outputs/runs/*_reward_model_* | head -1)"
PLACEHOLDERS: dict[tuple[str, str], str] = {
    ("README.md", "<run>"): NEWEST_RUN,
    ("README.md", "<name>"): NEWEST_CHECKPOINT,
    ("feedback.md", "<run>"): "my_run",
    ("models.md", "<folder>"): "my_model",
    ("reward_models.md", "<folder or hub id>"): NEWEST_REWARD_MODEL,
    ("runs.md", "<run>"): NEWEST_RUN,
    ("runs.md", "iteration-00019"): NEWEST_CHECKPOINT,
    ("runs.md", "<folder>"): "my_run",
}
# What a document takes for granted.
BEFORE = {
    "feedback.md": "python run.py hydra.run.dir=my_run\n",
    "runs.md": "python run.py data=files 'data.path=\"${oc.env:SCRATCH}/pairs.jsonl\"'"
    " hydra.run.dir=my_run\n",
}
