"""What makes a comparison unfair or uncertain, in sentences."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.comparison.grouping import Configuration, differing_keys, shown
from harness.comparison.reading import EPISODES, INPUTS, KL, PolicyRun

FEW_SEEDS = 3
LARGEST_KL = 50  # nats a response
SHOWN = 4  # values in one sentence
STAGES = {
    "sft": "reference policies: KL and win rate are measured against different ones",
    "reward_model": "reward models",
}
# Prompts are held out of the data, and `data.recommended` is advice that other options have taken.
DATA = ("data.", "algo.val_prompts", f"{INPUTS}data")


def cautions(configurations: Sequence[Configuration]) -> list[str]:
    """One sentence or two for everything that a reader must know before believing the numbers."""
    runs = [run for configuration in configurations for run in configuration.runs]
    keys = differing_keys([configuration.config for configuration in configurations])
    found = [
        *_episodes(runs),
        *_stages(runs),
        *_rewards(runs, keys),
        *_prompts(keys),
        *_seeds(configurations),
        *_kl(configurations),
        *_code(runs),
        *_changed(runs),
    ]
    if len(configurations) == 1:
        found.insert(0, "There is one configuration only: nothing to compare it with.")
    return found


def _episodes(runs: Sequence[PolicyRun]) -> list[str]:
    counts = _values(run.final(EPISODES) for run in runs)
    if len(counts) < 2:
        return []
    listed = _listed(f"{count:,.0f}" for count in sorted(counts))
    return [
        f"Runs have unequal numbers of episodes ({listed}): final values are of different budgets;"
        " compare at equal episodes in the learning curves."
    ]


def _stages(runs: Sequence[PolicyRun]) -> list[str]:
    found = []
    for stage, what in STAGES.items():
        # The folder's name is a fingerprint of all that shaped the stage.
        paths = (run.summary.get(f"stages/{stage}/path") for run in runs)
        marks = _values(Path(path).name if path else "none" for path in paths)
        if len(marks) > 1:
            found.append(f"Runs have different {what} (stage {stage}: {_listed(marks)}).")
    return found


def _rewards(runs: Sequence[PolicyRun], keys: Sequence[str]) -> list[str]:
    models = _values(Path(run.summary.get("stages/reward_model/path") or "").name for run in runs)
    options = [key for key in keys if key.startswith("reward.")]
    if len(models) < 2 and not options:
        return []
    why = f" ({_listed(options)} differ)" if options else ""
    return [
        f"Scores come from different rewards{why}, so they have different scales: differences of"
        " score, reward and the threshold compare nothing. Gold, where it is known, does."
    ]


def _prompts(keys: Sequence[str]) -> list[str]:
    data = [k for k in keys if k.startswith(DATA) and not k.startswith("data.recommended.")]
    if not data:
        return []
    return [f"Held-out prompts may differ between configurations, as {_listed(data)} do."]


def _seeds(configurations: Sequence[Configuration]) -> list[str]:
    found = []
    everywhere = sorted({seed for c in configurations for seed in c.seeds})
    lacking = {
        c.name: missing for c in configurations if (missing := set(everywhere) - set(c.seeds))
    }
    if lacking:
        lines = [f"{name} lacks {_listed(sorted(s))}" for name, s in lacking.items()]
        listed = _listed(lines, "; ")
        found.append(f"Configurations have different seeds: {listed}.")
    few = [c for c in configurations if len(c.runs) < FEW_SEEDS]
    if few:
        listed = _listed([f"{c.name} has {len(c.runs)}" for c in few], "; ")
        found.append(
            f"Few seeds ({listed}): an interval over one seed does not exist, and over two it says"
            f" little; {FEW_SEEDS} are the least, 5 to 10 are better."
        )
    return found


def _kl(configurations: Sequence[Configuration]) -> list[str]:
    found = []
    for configuration in configurations:
        finals = configuration.finals(KL)
        if not len(finals):
            continue
        if finals.mean() < 0:
            found.append(
                f"{configuration.name}: the final KL is negative ({finals.mean():.3g}). A single"
                " batch may be; a mean over seeds should not: evaluate on more prompts"
                " (algo.val_prompts), and compare rollout/kl_k3."
            )
        if finals.max() > LARGEST_KL:
            found.append(
                f"{configuration.name}: the final KL reaches {finals.max():.1f} nats a response,"
                f" above {LARGEST_KL}: its responses are far from the reference's, where a reward"
                " model knows least; raise algo.beta, and read the samples."
            )
    return found


def _code(runs: Sequence[PolicyRun]) -> list[str]:
    found = []
    commits = _values(run.summary.get("commit") for run in runs)
    if len(commits) > 1:
        found.append(f"Runs are of different commits of the code: {_listed(commits)}.")
    for key in sorted({k for run in runs for k in run.summary if k.startswith("versions/")}):
        versions = _values(run.summary.get(key) for run in runs)
        if len(versions) > 1:
            library = key.partition("/")[2]
            found.append(f"Runs used different versions of {library}: {_listed(versions)}.")
    return found


def _changed(runs: Sequence[PolicyRun]) -> list[str]:
    """Runs that were resumed although something was no longer what they had begun with."""
    return [
        f"{run.folder} went on with other inputs than it began with: {changed}."
        for run in runs
        if (changed := run.summary.get("resume_anyway"))
    ]


def _values(values: Iterable[Any]) -> list[Any]:
    """The different values, in their order."""
    return list(dict.fromkeys(values))


def _listed(items: Iterable[Any], between: str = ", ") -> str:
    texts = ["unknown" if item is None else shown(item) for item in items]
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return between.join(texts[:SHOWN]) + more
