"""summary.json: a run in one flat file, to be compared with others."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from harness.disk.files import SUMMARY, write_json
from harness.runs.folder import Run
from harness.runs.provenance import commit, versions
from harness.runs.stages import Stage


def write_summary(
    run: Run,
    cfg: DictConfig,
    result: Mapping[str, Any],
    *,
    data: Mapping[str, int],
    stages: Sequence[Stage],
) -> dict[str, Any]:
    """Everything that one needs to compare this run with others, also returned.

    `result` holds its metrics, `data` the counts of what was read, by what became of it, and the
    limits of tokens.
    """
    summary = {
        "algo": cfg.algo.name,
        "model": cfg.model.name,
        "data": cfg.data.name,
        "seed": cfg.seed,
        "folder": str(run.folder),
        **{key: value for key, value in result.items() if not key.startswith("time/")},
        **{f"data/{key}": value for key, value in data.items()},
        "time/total": run.seconds,
        "time/finished": time.time(),  # seconds since 1970: a copied file's own time is another
    }
    for stage in stages:
        summary[f"stages/{stage.name}/path"] = str(stage.path.absolute())
        summary[f"stages/{stage.name}/reused"] = stage.reused
        summary[f"stages/{stage.name}/seconds"] = stage.seconds
        for key, value in stage.summary.items():
            summary[f"stages/{stage.name}/{key}"] = value
    for name in ("policy_from", "critic_from"):
        if start := cfg.algo.get(name):
            summary[name] = str(start)
    if run.changed:
        summary["resume_anyway"] = "; ".join(run.changed)
    summary |= {f"versions/{library}": v for library, v in versions().items()}
    summary["commit"] = commit()
    write_json(run.folder / SUMMARY, _without_nan(summary))
    return summary


def _without_nan(summary: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN; what is undefined is null."""
    return {k: None if v != v else v for k, v in summary.items()}
