"""task=evaluate: how well a reward orders the held-out pairs of any source."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.console import make_console, places
from harness.errors import RunError
from harness.judging import judge
from harness.pipeline import Pipeline
from harness.runs import open_run
from harness.tracking import log_report
from harness.train import write_summary
from harness.trainer import quiet


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Report on `cfg.reward` with the held-out pairs of `cfg.data`; returns what summary.json
    holds.
    """
    quiet()
    if missing := OmegaConf.missing_keys(cfg):
        raise RunError("; ".join(f"{key} has no value: give {key}=..." for key in sorted(missing)))
    console = make_console()
    pipeline = Pipeline(cfg, console)
    run = pipeline.run = open_run(cfg)
    try:
        pairs = pipeline.source.preferences("val")
        console.print(
            f"[bold]reward {cfg.reward.name}[/bold] on {len(pairs):,} held-out pairs of"
            f" [bold]{cfg.data.name}[/bold]; in {run.folder}",
            soft_wrap=True,
        )
        pipeline.reward.bind(pipeline.reward_context())
        pipeline.reward.to(pipeline.device)
        with pipeline.tracked(run.folder, "evaluate", run=run) as loggers:
            numbers = judge(
                pipeline.reward.raw_scores,
                pairs,
                run.folder,
                title=f"Reward {cfg.reward.name} on {cfg.data.name}",
                left_out=pipeline.source.counts,
            )
            log_report(loggers, run.folder, numbers)
        for name, value in numbers.items():
            if name.count("/") == 1:
                console.print(f"  {name:36} {value:.4f}")
        summary = write_summary(pipeline, numbers)
        run.save(finished=True)
        for line in places(run.folder):
            console.print(line, soft_wrap=True)
        return summary
    finally:
        run.release()
