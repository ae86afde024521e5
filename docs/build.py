"""Writes the tables and pictures of docs/ from the figures that tests and runs left behind.

    python -m pytest tests/exact --write-figures     the exact tests' errors
    python run.py -m experiment=ladder seed=1,2,3    then: python docs/build.py --ladder FOLDER
    python docs/build.py --measure                   the variances and the over-optimisation
    python docs/build.py --report FOLDER             pictures of a reward model's report
    python docs/build.py                             tables and pictures alone

Figures are kept in docs/figures.
"""

import argparse
import csv
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

DOCS = Path(__file__).parent
FIGURES = DOCS / "figures"


def blocks() -> dict[str, dict[str, str]]:
    """The generated blocks of each document, by name."""
    return {
        "verification.md": {
            "claims": claims_table(_load("exact")),
            "variance": variance_table(_load("variance")),
            "over-optimisation": over_optimisation_table(_load("overoptimisation")),
        },
        "lecture.md": {"ladder": ladder_table(_load("ladder"))},
    }


def with_blocks(text: str, contents: dict[str, str]) -> str:
    """A document with its generated blocks renewed."""
    for name, content in contents.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"there is no block {name} to fill")
        text = pattern.sub(lambda match, c=content: f"{match[1]}{c}\n{match[2]}", text)
    return text


def claims_table(rows: list[dict[str, Any]]) -> str:
    """A line a claim: its largest error over the models and cases that the rows tell apart.

    A claim that says "biased" is about what is known to be wrong, and has no tolerance.
    """
    claims: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        claims[row["claim"].rsplit(": ", 1)[0]].append(row)
    lines = ["| claim | cases | test | largest error | tolerance |", "|---|---|---|---|---|"]
    for claim in sorted(claims, key=_place):
        cases = claims[claim]
        file, _, test = cases[0]["test"].partition("::")
        error = _number(max(case["error"] for case in cases))
        tolerance = _number(max(case["tolerance"] for case in cases))
        if "biased" in claim:
            tolerance = ""
        link = f"[{test}](../tests/exact/{file})"
        lines.append(f"| {claim} | {len(cases)} | {link} | {error} | {tolerance} |")
    return "\n".join(lines)


def _place(claim: str) -> int:
    """The number of a claim: 3 of "E3 ..."."""
    return int(re.match(r"E(\d+) ", claim)[1])


def _number(x: float) -> str:
    return "0" if x == 0 else f"{x:.2g}"


def ladder_figures(folder: Path) -> dict[str, Any]:
    """Held-out gold and KL over episodes, by rung and seed, from the runs of a sweep."""
    rungs: dict[str, dict[str, Any]] = defaultdict(lambda: {"seeds": []})
    files = folder.glob("*/summary.json")
    for file in sorted(files, key=lambda file: int(file.parent.name.partition("_")[0])):
        summary = json.loads(file.read_text(encoding="utf-8"))
        with open(file.parent / "metrics.csv", encoding="utf-8") as lines:
            rows = [row for row in csv.DictReader(lines) if row.get("val/gold")]
        rung = rungs[summary["algo"]]
        rung["seeds"].append(summary["seed"])
        rung["episodes"] = [int(float(row["rollout/episodes"])) for row in rows]
        for name in ("val/gold", "val/kl", "val/win_rate"):
            rung.setdefault(name, []).append([float(row[name]) for row in rows])
        rung.setdefault("reference/gold", []).append(summary["reference/gold"])
        rung.setdefault("minutes", []).append(summary["time/total"] / 60)
    return dict(rungs)


def ladder_table(rungs: dict[str, Any]) -> str:
    lines = [
        "![held-out gold over episodes, mean and range over seeds](figures/ladder.png)",
        "",
        "| rung | gold at the end | over the course | KL | win rate |",
        "|---|---|---|---|---|",
    ]
    for name, rung in rungs.items():
        last = {k: [run[-1] for run in rung[k]] for k in ("val/gold", "val/kl", "val/win_rate")}
        course = [mean(run) for run in rung["val/gold"]]
        lines.append(
            f"| {name} | {_spread(last['val/gold'])} | {_spread(course)} |"
            f" {_spread(last['val/kl'])} | {_spread(last['val/win_rate'])} |"
        )
    some = next(iter(rungs.values()))
    lines += [
        "",
        f"Mean ± standard deviation over seeds {', '.join(map(str, sorted(some['seeds'])))}; every"
        f" run has {some['episodes'][-1]:,} episodes; the reference, whose"
        " responses are sampled anew for each seed, has gold"
        f" {_spread(some['reference/gold'])}. *Over the course* is the mean over all evaluations of"
        " a run: how soon gold rises.",
    ]
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    return f"{mean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def draw_ladder(rungs: dict[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, rung in rungs.items():
        columns = list(zip(*rung["val/gold"], strict=True))
        (line,) = axes.plot(rung["episodes"], [mean(c) for c in columns], label=name)
        low, high = [min(c) for c in columns], [max(c) for c in columns]
        axes.fill_between(rung["episodes"], low, high, color=line.get_color(), alpha=0.15, lw=0)
    axes.set(
        title="Held-out gold of the rungs, mean and range over seeds",
        xlabel="episodes",
        ylabel="gold, true quality from 0 to 1",
    )
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def measure() -> None:
    """The figures that the exact world gives: seconds, and a minute or two of training."""
    sys.path.insert(0, str(DOCS.parent))
    from tests.exact import overoptimisation, variance

    table = {kind: variance.variance_table(kind) for kind in ("recurrent", "gpt2", "llama")}
    held = {"of": len(variance.INSTANCES), "steps": variance.steps_held()}
    _save("variance", {"table": table, "held": held})
    points = overoptimisation.trained_points()
    for point in points:
        exact = overoptimisation.seen(overoptimisation.best(point["beta"]))
        point |= {f"exact_{name}": value for name, value in exact.items()}
    _save("overoptimisation", {"curve": overoptimisation.curve(), "trained": points})


def variance_table(figures: dict[str, Any]) -> str:
    kinds = list(figures["table"])
    lines = [
        f"| estimator | {' | '.join(kinds)} |",
        f"|---|{'---|' * len(kinds)}",
    ]
    for name in figures["table"][kinds[0]]:
        row = " | ".join(f"{figures['table'][kind][name]:.3g}" for kind in kinds)
        lines.append(f"| {name} | {row} |")
    count = figures["held"]["of"]
    steps = (f"{step}: {held}" for step, held in figures["held"]["steps"].items())
    lines += ["", f"In how many of {count} random instances a step lowers it: {'; '.join(steps)}."]
    return "\n".join(lines)


def over_optimisation_table(figures: dict[str, Any]) -> str:
    lines = [
        "![gold and proxy over KL](figures/overoptimisation.png)",
        "",
        "| β | KL, exact | KL, trained | gold, exact | gold, trained | proxy, exact | trained |",
        "|---|---|---|---|---|---|---|",
    ]
    for point in figures["trained"]:
        pairs = (
            f"{point[f'exact_{name}']:.3f} | {point[name]:.3f}" for name in ("kl", "gold", "proxy")
        )
        lines.append(f"| {point['beta']} | {' | '.join(pairs)} |")
    return "\n".join(lines)


def draw_over_optimisation(figures: dict[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, colour in (("proxy", "tab:orange"), ("gold", "tab:blue")):
        curve, trained = figures["curve"], figures["trained"]
        axes.plot([p["kl"] for p in curve], [p[name] for p in curve], color=colour, label=name)
        axes.plot([p["kl"] for p in trained], [p[name] for p in trained], "o", color=colour)
    axes.set(
        title="What a policy gains by its proxy, and by the truth",
        xlabel="KL to the reference, nats a response",
        ylabel="expected score",
    )
    axes.legend(frameon=False, title="line: exact, points: trained")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_comparison(rungs: dict[str, Any], path: Path) -> None:
    """Gold, KL and win rate of the rungs beside each other, drawn as task=compare draws runs."""
    sys.path.insert(0, str(DOCS.parent))
    import numpy as np

    from harness.comparison.figures import Layout, draw_curves
    from harness.comparison.grouping import Configuration
    from harness.comparison.reading import GOLD, KL, WIN_RATE, Curve, PolicyRun

    metrics = (GOLD, KL, WIN_RATE)
    configurations = []
    for name, rung in rungs.items():
        episodes = np.array(rung["episodes"], dtype=np.float64)
        runs = []
        for i, seed in enumerate(rung["seeds"]):
            curves = {m: Curve(episodes, np.array(rung[m][i]), 0 * episodes) for m in metrics}
            summary = {"reference/gold": rung["reference/gold"][i]}
            runs.append(PolicyRun(path, "", {"seed": seed}, summary, curves))
        configurations.append(Configuration(f"algo={name}", {}, runs))
    draw_curves(configurations, path, Layout(3, (3.5, 2.9), 100), metrics)


def draw_report(report: Path, path: Path) -> None:
    """Calibration and accuracy by margin, side by side, from the pictures of a report."""
    from PIL import Image

    pictures = [Image.open(report / "report" / f"{name}.png") for name in ("reliability", "margin")]
    width, height = sum(p.width for p in pictures), max(p.height for p in pictures)
    both = Image.new("RGB", (width, height), "white")
    both.paste(pictures[0], (0, 0))
    both.paste(pictures[1], (pictures[0].width, 0))
    both.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ladder", type=Path, help="folder of the sweep experiment=ladder")
    parser.add_argument("--measure", action="store_true", help="measure on the exact world anew")
    parser.add_argument("--report", type=Path, help="folder with the report of a reward model")
    arguments = parser.parse_args()
    if arguments.report:
        draw_report(arguments.report, FIGURES / "reward_report.png")
    if arguments.ladder:
        _save("ladder", ladder_figures(arguments.ladder))
    if arguments.measure:
        measure()
    for name, contents in blocks().items():
        document = DOCS / name
        document.write_text(
            with_blocks(document.read_text(encoding="utf-8"), contents), encoding="utf-8"
        )
    draw_ladder(_load("ladder"), FIGURES / "ladder.png")
    draw_comparison(_load("ladder"), FIGURES / "comparison.png")
    draw_over_optimisation(_load("overoptimisation"), FIGURES / "overoptimisation.png")


def _save(name: str, figures: Any) -> None:
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _load(name: str) -> Any:
    return json.loads((FIGURES / f"{name}.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
