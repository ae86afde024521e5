"""What the configurations answer to the same held-out prompts, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.comparison.document import Answer, Asked, Block, Heading, Text
from harness.comparison.grouping import Configuration
from harness.comparison.reading import PolicyRun
from harness.errors import RunError
from harness.reports.markdown import shortened
from harness.tracking.whole_rows import json_rows

PROMPTS = 6
SHOWN = 6  # configurations beside each other
LONGEST = {"prompt": 500, "answer": 700}  # characters
EVERY_ITERATION = 2**63
BEST = "best/iteration"

Rows = Mapping[str, Mapping[str, Any]]  # by prompt


def answers(configurations: Sequence[Configuration]) -> list[Block]:
    """Up to PROMPTS prompts that all shown configurations were evaluated on, spread over what they
    kept, each with the answers of one run of each and of the reference.
    """
    chosen = _one_run_each(configurations[:SHOWN])
    rows = {name: last_rows(run) for name, run in chosen.items()}
    lacking = [name for name, found in rows.items() if not found]
    rows = {name: found for name, found in rows.items() if found}
    heading = Heading("Answers to the same prompts")
    if not rows:
        return [heading, Text("No run has kept any (samples.jsonl).")]
    common = [p for p in next(iter(rows.values())) if all(p in found for found in rows.values())]
    if not common:
        return [heading, Text("The configurations have no held-out prompt in common.")]
    count = min(PROMPTS, len(common))
    prompts = [common[i * len(common) // count] for i in range(count)]
    about = _about({name: chosen[name] for name in rows}, len(configurations), lacking)
    return [heading, Text(about), *(_asked(prompt, rows) for prompt in prompts)]


def last_rows(run: PolicyRun) -> Rows:
    """The samples of the policy that a run exported, by prompt; none where they are not whole."""
    path = run.folder / "samples.jsonl"
    try:
        rows, _ = json_rows(path, EVERY_ITERATION)
    except RunError:
        return {}
    last = run.summary.get(BEST) or max((row["iteration"] for row in rows), default=None)
    return {row["prompt"]: row for row in rows if row["iteration"] == last and _is_whole(row)}


def _one_run_each(configurations: Sequence[Configuration]) -> dict[str, PolicyRun]:
    """The run of the lowest seed that all have; of those without it, of their own lowest."""
    common = set.intersection(*(set(c.seeds) for c in configurations))
    chosen = {}
    for c in configurations:
        seed = min(common or c.seeds)
        chosen[c.name] = next(run for run in c.runs if run.seed == seed)
    return chosen


def _about(chosen: Mapping[str, PolicyRun], all_of_them: int, lacking: Sequence[str]) -> str:
    seeds = {run.seed for run in chosen.values()}
    text = (
        "Held-out prompts, spread over those that were kept, and what the policies say at the end"
        f" of training (seed {', '.join(map(str, sorted(seeds)))}), with the reference beside them."
        " Responses are sampled, one each: they show what the numbers mean, and decide nothing."
    )
    if all_of_them > SHOWN:
        text += f" Only the {SHOWN} configurations of the highest final score are shown."
    if lacking:
        text += f" Without samples: {', '.join(lacking)}."
    return text


def _asked(prompt: str, rows: Mapping[str, Rows]) -> Asked:
    asked = {name: found[prompt] for name, found in rows.items()}
    references: dict[tuple, list[str]] = {}
    for name, row in asked.items():
        references.setdefault((row["reference_answer"], _worth(row, "reference_")), []).append(name)
    alone = len(references) == 1
    return Asked(
        shortened(prompt.strip(), LONGEST["prompt"]),
        [
            *(
                Answer(
                    "reference" if alone else f"reference of {'; '.join(of)}", _text(text), worth
                )
                for (text, worth), of in references.items()
            ),
            *(Answer(name, _text(row["answer"]), _worth(row)) for name, row in asked.items()),
        ],
    )


def _text(answer: str) -> str:
    return shortened(answer.strip(), LONGEST["answer"]) or "(nothing)"


def _worth(row: Mapping[str, Any], whose: str = "") -> str:
    score, gold = row.get(f"{whose}score"), row.get(f"{whose}gold")
    words = ["no score" if score is None else f"score {score:.2f}"]
    return ", ".join([*words, *([] if gold is None else [f"gold {gold:.2f}"])])


def _is_whole(row: Mapping[str, Any]) -> bool:
    texts = (row.get(name) for name in ("prompt", "answer", "reference_answer"))
    keys = ("score", "reference_score", "gold", "reference_gold")
    numbers = [row.get(key) for key in keys]
    return all(isinstance(text, str) for text in texts) and all(
        number is None or (isinstance(number, int | float) and abs(number) < 1e300)
        for number in numbers
    )
