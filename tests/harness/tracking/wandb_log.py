"""What is in W&B's transaction log, the file that `wandb sync` uploads."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wandb
from wandb.proto.wandb_internal_pb2 import MetricRecord, RunRecord

from harness.tracking.wandb_files import records


@dataclass
class Log:
    """What one transaction log holds."""

    folder: Path
    run: RunRecord
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, MetricRecord] = field(default_factory=dict)
    artifacts: list[tuple[str, str]] = field(default_factory=list)
    uploads: set[str] = field(default_factory=set)  # files, below `files`
    finished: bool = False

    @property
    def files(self) -> Path:
        return self.folder / "files"


def read_log(path: Path) -> Log:
    """One segment of a run; a resumed run has several."""
    log = Log(path.parent, RunRecord())
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            log.run = record.run
            log.config |= _items(record.run.config.update)
        elif kind == "config":
            log.config |= _items(record.config.update)
        elif kind == "history":
            log.rows.append(_items(record.history.item))
        elif kind == "summary":
            log.summary |= _items(record.summary.update)
        elif kind == "metric":
            log.metrics[record.metric.name or record.metric.glob_name] = record.metric
        elif kind == "artifact":
            log.artifacts.append((record.artifact.type, record.artifact.name))
        elif kind == "files":
            log.uploads |= {file.path for file in record.files.files}
        elif kind == "exit":
            log.finished = True
    return log


def logs_of(folder: Path) -> list[Log]:
    """The logs of all runs below a run's folder, in the order in which they were begun."""
    logs = [read_log(path) for path in folder.glob("wandb/*run-*/*.wandb")]
    return sorted(logs, key=lambda log: log.run.start_time.ToNanoseconds())


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def ended(*loggers):
    """Finish the runs, and wait until all is on disk."""
    for logger in loggers:
        logger.finish()
    wandb.teardown()


def log_of(folder, run_id):
    return [log for log in logs_of(folder) if log.run.run_id == run_id][-1]
