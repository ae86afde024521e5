"""The parts of a run are known, and what is in the cache of them, before anything is trained."""

import pytest

from harness.parts.choices import Choices
from harness.pipeline.pipeline import Pipeline
from harness.pipeline.planning import lengths, plan_of
from harness.reports.console import make_console
from harness.runs.stages import MARKER, fingerprint


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ([], ["reference", "reward model", "PPO"]),
        (["algo=rloo", "reward=gold"], ["reference", "RLOO"]),
        (["algo=reward_model"], ["reference", "reward model"]),
        (["algo=sft"], ["SFT"]),
    ],
)
def test_a_run_has_the_stages_that_it_needs(options, parts, configure, tmp_path):
    cfg = configure(tmp_path / "run", f"cache_dir={tmp_path}/cache", *options)
    pipeline = Pipeline(Choices(cfg), make_console())
    plan = plan_of(pipeline)
    assert [part.title for part in plan.parts] == parts
    assert all(part.cost.train > part.cost.evaluate > 0 for part in plan.parts)
    if len(parts) > 1:
        mark = fingerprint(pipeline._shaped_by("sft"))
        folder = tmp_path / "cache" / "sft" / mark
        folder.mkdir(parents=True)
        (folder / MARKER).touch()
        assert [part.cost is None for part in plan_of(pipeline).parts] == [
            True,
            *[False] * (len(parts) - 1),
        ]


def test_lengths_are_those_of_the_data_and_nothing_is_counted_as_encoded(configure, tmp_path):
    pipeline = Pipeline(Choices(configure(tmp_path / "run")), make_console())
    found = lengths(pipeline)
    assert pipeline.encoder.counts == {}
    rows = pipeline.source.comparisons("train")
    prompts = pipeline.encoder.prompts([row.prompt for row in rows])
    assert found.prompt == pytest.approx(sum(map(len, prompts)) / len(prompts))
    assert found.longest_prompt == max(map(len, prompts))
    # Both responses are read as if they were as long as the longer one.
    assert found.comparison > found.prompt + 2 * found.response
