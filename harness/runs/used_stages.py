"""Which stages a run has used, where they are now, and the links to them in its folder."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.disk.files import SUMMARY, read_json
from harness.errors import RunError
from harness.runs.stages import Stage, stage_in

REFERENCE = "reference"
# What a run's folder calls the stages that it has used.
LINKS = {"sft": REFERENCE, "reward_model": "reward_model"}


@dataclass(frozen=True)
class Lost:
    """A stage that a run has used and that is not there any more."""

    mark: str  # its fingerprint
    told: str


@dataclass(frozen=True)
class Origin:
    """A run whose stages a later command uses: what was trained then, not what would be now."""

    folder: Path
    date: str | None  # what chat templates were told
    stages: Mapping[str, Stage] = field(default_factory=dict)
    lost: Mapping[str, Lost] = field(default_factory=dict)
    exact: bool = False  # no other stage will do in the place of a lost one


def find_stages(
    run: Path, state: Mapping[str, Any], names: Sequence[str], caches: Sequence[Any]
) -> tuple[dict[str, Stage], dict[str, Lost]]:
    """The stages `names` that the run in this folder has used, by what its run.json says; those
    that are there, and those that are not or are damaged. Those that it has not used are neither.

    They are looked for where its links lead and in `caches`, folders that may be relative to where
    one stands or to where the run's outputs are.
    """
    found, lost = {}, {}
    for name in names:
        mark, seconds = _used(run, state, name)
        if mark is None:
            continue
        wrong = "is not there any more"
        for folder in _candidates(run, name, mark, caches):
            try:
                stage = stage_in(folder, name)
            except RunError as error:
                wrong = f"is damaged ({error})"
                continue
            if stage:
                found[name] = stage
                break
        else:
            took = f", which took {_time(seconds)} then" if seconds else ""
            what = LINKS[name].replace("_", " ")
            lost[name] = Lost(
                mark,
                f"the {what} of {run} ({name}/{mark}) {wrong}: it is trained anew{took}; if it lies"
                " in another cache, give that as cache_dir=...",
            )
    return found, lost


def link(run: Path, name: str, target: Path) -> None:
    """A link of this name in a run's folder, relative so that both may be moved together. Nothing
    is done where something else has the name, or the file system has no links.
    """
    place = run / name
    if place.exists() and not place.is_symlink():
        return
    draft = run / f".{name}.link"
    with contextlib.suppress(OSError, ValueError):  # Windows has no way from one disk to another
        draft.unlink(missing_ok=True)
        draft.symlink_to(os.path.relpath(target.resolve(), run.resolve()), target_is_directory=True)
        os.replace(draft, place)


def _used(run: Path, state: Mapping[str, Any], name: str) -> tuple[str | None, float | None]:
    """The fingerprint of the stage that a run has used and the seconds that it took."""
    summary: Mapping[str, Any] = {}
    with contextlib.suppress(RunError):  # of a run that is not finished
        summary = read_json(run / SUMMARY)
    path, seconds = (summary.get(f"stages/{name}/{key}") for key in ("path", "seconds"))
    mark = (state.get("stages") or {}).get(name) or (Path(path).name if path else None)
    made = summary.get(f"stages/{name}/reused") is False
    return mark, seconds if made and isinstance(seconds, int | float) else None


def _candidates(run: Path, name: str, mark: str, caches: Sequence[Any]) -> list[Path]:
    places = [run / LINKS[name]] if (run / LINKS[name]).exists() else []
    for cache in caches:
        if isinstance(cache, str) and cache:
            folder = Path(os.path.expanduser(cache))
            roots = (
                [folder]
                if folder.is_absolute()
                else [r / folder for r in (Path(), *run.absolute().parents)]
            )
            places += [root / name / mark for root in roots]
    # A link may lead to what has been put in the place since.
    real = [place.resolve() for place in places if place.is_dir()]
    return [place for place in dict.fromkeys(real) if place.name == mark]


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
