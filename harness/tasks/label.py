"""task=label: a page on which people say which answers are better, and a file of what they said."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.errors import RunError
from harness.feedback.answers import ANSWERS
from harness.feedback.export import export
from harness.feedback.item_files import read_items
from harness.feedback.items import SIZES
from harness.feedback.report import summary_lines, summary_table
from harness.feedback.store import FILE, Store
from harness.feedback.summary import summarise
from harness.overrides import require_names
from harness.parts.players import players_of
from harness.quiet import quiet, quiet_transformers
from harness.reports.console import make_console, say
from harness.signals import Stopped, remember
from harness.surroundings import require_writable
from harness.tasks.generate import generate
from harness.typed import from_here, option, program
from harness.web import PACKAGES
from lightning_modules.options.require import one_of, require, require_package

ORDERS = ("given", "disagreement")
# What does not shape answers.
OWN = ("items", "kind", "store", "overlap", "order", "reward_model", "instructions", "lease")
OWN += ("host", "port", "export")


def label(cfg: DictConfig) -> dict[str, Any]:
    """Show the page until a signal ends it or, with `cfg.export`, write what was said. Returns the
    numbers of items and labels.
    """
    require_names(cfg)
    place = Path(cfg.store).expanduser() / FILE
    if cfg.export is not None:
        return _export(place, Path(cfg.export).expanduser())
    _check(cfg)
    given = cfg["items"]  # a dictionary has a method of this name
    if given is None and cfg.policies is None and not place.exists():
        raise RunError(
            f"items has no value, and there is no {from_here(place)}: give items=<a file of"
            " answers>, such as task=generate writes"
        )
    require_writable(place.parent, "store")
    if cfg.policies is not None:
        given = _answered(cfg, place.with_name("answers"))
    counts: Counter[str] = Counter()
    items = read_items(given, cfg.kind, counts) if given is not None else []
    with Store(place, overlap=cfg.overlap, lease=60 * cfg.lease) as store:
        added = store.add(items)
        if cfg.order == "disagreement":
            _prioritise(store, cfg.reward_model)
        _serve(cfg, store, [*_left_out(counts), *_what_is_there(store, len(items), added)])
        progress = store.progress()
    return {"items": progress.items, "labels": progress.labels}


def _check(cfg: DictConfig) -> None:
    require(cfg.kind in SIZES, "kind", cfg.kind, one_of(list(SIZES)))
    require(cfg.order in ORDERS, "order", cfg.order, one_of(ORDERS))
    if cfg.policies is not None:
        require(cfg["items"] is None, "policies", cfg.policies, "give them or items, not both")
        _check_count(cfg.kind, len(players_of("policies", cfg.policies)) * cfg.samples, cfg.samples)
    if cfg.order == "disagreement":
        rule = "order=disagreement needs the folder of an ensemble of reward models"
        require(bool(cfg.reward_model), "reward_model", cfg.reward_model, rule)
    require(cfg.overlap >= 1, "overlap", cfg.overlap, "must be at least 1")
    require(cfg.lease > 0, "lease", cfg.lease, "must be above 0, in minutes")
    require(0 <= cfg.port < 65536, "port", cfg.port, "must lie in [0, 65535]")
    for package in PACKAGES:
        require_package(package, "label", "task", "label")
    from harness.web.server import require_free

    require_free(cfg.host, cfg.port)


def _check_count(kind: str, answers: int, samples: int) -> None:
    """OptionError unless what policies will say of a prompt makes an item of this kind."""
    least, most = SIZES[kind]
    rule = f"makes {answers} answer{'s' * (answers != 1)} to a prompt, and a {kind} needs {least}"
    require(answers >= least, "samples", samples, rule)
    rule = f"makes {answers} answers to a prompt, and a {kind} has at most {most}"
    require(kind != "ranking" or answers <= most, "samples", samples, rule)


def _answered(cfg: DictConfig, folder: Path) -> str:
    """Let the policies answer prompts, in a folder where that goes on if it was begun; returns the
    file.
    """
    answering = OmegaConf.masked_copy(cfg, [key for key in cfg if key not in OWN])
    generate(OmegaConf.merge(answering, {"policy": None, "to": str(folder)}))
    return str(folder / ANSWERS)


def _prioritise(store: Store, reward_model: str) -> None:
    """Have those items asked first about which the heads of a reward model disagree most."""
    quiet()
    from harness.evaluation.disagreement import disagreements

    quiet_transformers()
    items = store.items()
    far = disagreements(reward_model, list(items.values()))
    store.prioritise(dict(zip(items, far, strict=True)))


def _serve(cfg: DictConfig, store: Store, lines: list[str]) -> None:
    """Serve the page until a signal comes, which then says what is kept."""
    from harness.web.labelling import Labelling
    from harness.web.server import serving

    console = make_console(alone=True)
    with serving(Labelling(store, cfg.instructions).app(), cfg.host, cfg.port) as site:
        say(console, [*lines, f"open {site.address} to label; ctrl-c ends, and keeps all votes"])
        try:
            site.wait()
        except Stopped:
            kept = len(store.votes())
            remember(f"{kept} vote{'s' * (kept != 1)} in {from_here(store.path)}")
            raise


def _what_is_there(store: Store, given: int, added: int) -> list[str]:
    """What the file has brought, and what there is to do."""
    progress = store.progress()
    lines = []
    if given:
        again = f", {given - added} were there already" if given > added else ""
        lines.append(f"{added} of {given} items added to {from_here(store.path)}{again}")
    lines.append(
        f"{progress.items} items in all, {progress.labels} of {progress.wanted} labels are there"
    )
    return lines


def _left_out(counts: Counter[str]) -> list[str]:
    why = {"identical": "the answers are the same", "repeated": "the same item once more"}
    return [f"left out: {counts[what]} ({told})" for what, told in why.items() if counts[what]]


def _training(file: Path) -> str:
    """The command that trains on a file of labels."""
    row = json.loads(file.read_text(encoding="utf-8").partition("\n")[0])
    loss = " stages.reward_model.loss=thumbs" if "label" in row else ""
    return f"{program()} data=files {option('data.path', from_here(file))}{loss}"


def _export(place: Path, to: Path) -> dict[str, Any]:
    """Write the labels of a store, and say what they are."""
    if not place.exists():
        raise RunError(f"{from_here(place)}: no such store; give store=<folder of task=label>")
    require(to.suffix == ".jsonl", "export", to, "must end with .jsonl: labels are JSON lines")
    require_writable(to.parent, "export")
    with Store(place) as store:
        items, votes = store.items(), store.votes()
    summary = summarise(items, votes)
    if not summary.labels:
        raise RunError(f"{from_here(place)}: has no labels yet; task=label shows the page")
    files = export(to, items, votes)
    console = make_console(alone=True)
    say(console, summary_lines(summary))
    console.print(summary_table(summary))
    written = [f"{count} rows in {from_here(file)}" for file, count in files.items()]
    say(console, [*written, *(f"to train on them: {_training(file)}" for file in files)])
    return {"items": summary.items, "labels": summary.labels}
