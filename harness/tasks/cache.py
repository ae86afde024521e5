"""task=cache: the stages that runs share, with sizes; those that can go are removed."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console

from harness.disk.contents import in_units
from harness.overrides import require_names
from harness.reports.cached_stages import IN_USE, Cached, cached_stages, users_below
from harness.reports.console import make_console, say
from harness.reports.word_table import WordTable
from harness.runs.stages import remove
from harness.typed import option
from lightning_modules.errors import OptionError
from lightning_modules.options.require import require

SHORTEST = 4  # digits of a fingerprint
AGE = re.compile(r"(\d+)d")


def cache(cfg: DictConfig) -> dict[str, Any]:
    """List the stages in `cfg.cache_dir`, or what `cfg.clear` chooses of them, which is removed
    unless `cfg.dry_run`. Returns how many there are, their bytes, and how many were removed.

    OptionError if `clear` chooses nothing that it could mean.
    """
    require_names(cfg)
    require(isinstance(cfg.dry_run, bool), "dry_run", cfg.dry_run, "must be true or false")
    place = Path(str(cfg.cache_dir)).expanduser()
    roots = [cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs or [])
    users = users_below([Path(str(root)).expanduser() for root in roots])
    stages = cached_stages(place, users)
    console = make_console(alone=True)
    clear = cfg["clear"]  # a dictionary has a method of this name
    if clear is None:
        show(console, stages)
        how = "clear=unused lists those that no run has used, clear=30d those above 30 days"
        say(console, [_total(stages, f"in {place}"), *([how] if stages else [])])
        return _counts(stages, 0)
    words = [str(word) for word in (clear if isinstance(clear, ListConfig) else [clear])]
    chosen = chosen_stages(stages, words)
    show(console, chosen)
    free = [stage for stage in chosen if stage.state != IN_USE]
    gone = [] if cfg.dry_run else [stage for stage in free if remove(stage.folder, stage.mark)]
    kept = [stage for stage in chosen if stage not in (free if cfg.dry_run else gone)]
    say(console, [f"{_called(stage)}: a running process uses it; it stays" for stage in kept])
    if cfg.dry_run:
        again = f"; task=cache {_again(words)} dry_run=false removes them"
        say(console, [_total(free, "would go") + again * bool(free)])
    else:
        say(console, [_total(gone, "removed")])
    return _counts([stage for stage in stages if stage not in gone], len(gone))


def chosen_stages(stages: Sequence[Cached], words: Sequence[str]) -> list[Cached]:
    """Those that any of the words means."""
    chosen = [stage for word in words for stage in _meant(stages, word)]
    return [stage for stage in stages if stage in chosen]


def _meant(stages: Sequence[Cached], word: str) -> list[Cached]:
    if word == "all":
        return list(stages)
    if word == "unused":
        return [stage for stage in stages if not stage.users]
    if word in ("damaged", "unfinished"):
        return [stage for stage in stages if stage.state == word]
    if age := AGE.fullmatch(word):
        return [stage for stage in stages if stage.days > int(age[1])]
    name, _, mark = word.rpartition("/")
    meant = [
        s
        for s in stages
        if word == s.name or (s.mark.startswith(mark) and name in ("", s.name) and len(mark) >= 4)
    ]
    if not meant:
        there = ", ".join(_called(stage) for stage in stages[:8]) or "no stage"
        raise OptionError(
            f"clear={word}: must be all, unused, damaged, unfinished, an age in days (30d), or a"
            f" stage: there is {there}"
        )
    return meant


def show(console: Console, stages: Sequence[Cached]) -> None:
    """A line for each."""
    if not stages:
        return
    table = WordTable(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("stage", "model, data"):
        table.add_column(name)
    for name in ("size", "age", "runs"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for stage in stages:
        of = ", ".join(part for part in (stage.model, stage.data) if part)
        row = (_called(stage), of, in_units(stage.bytes), _age(stage.days), str(len(stage.users)))
        table.add_row(*row, stage.state)
    console.print(table)


def _called(stage: Cached) -> str:
    return f"{stage.name}/{stage.mark[:8]}"


def _age(days: float) -> str:
    if days < 1 / 24:
        return f"{days * 1440:.0f} min"
    return f"{days * 24:.0f} h" if days < 2 else f"{days:.0f} d"


def _total(stages: Sequence[Cached], what: str) -> str:
    size = in_units(sum(stage.bytes for stage in stages))
    return f"{len(stages)} stage{'s' * (len(stages) != 1)}, {size}, {what}"


def _again(words: Sequence[str]) -> str:
    return option("clear", words[0]) if len(words) == 1 else f"'clear=[{','.join(words)}]'"


def _counts(stages: Sequence[Cached], removed: int) -> dict[str, Any]:
    return {"stages": len(stages), "bytes": sum(s.bytes for s in stages), "removed": removed}
