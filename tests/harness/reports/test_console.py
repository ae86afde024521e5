import re
from io import StringIO

from harness.reports.console import places, policy_summary, samples_table
from harness.reports.plain_console import PlainConsole


def text_of(table) -> str:
    console = PlainConsole(width=140, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


def row(**extra):
    return {
        "prompt": "Where is [bold]it[/bold]?",
        "answer": "Here.",
        "reference_answer": "There.",
        "score": 1.25,
        "reference_score": -0.5,
    } | extra


def test_samples_show_text_as_it_is_and_gold_where_it_is_known():
    text = text_of(samples_table([row()]))
    assert "Where is [bold]it[/bold]?" in text
    assert "gold" not in text
    assert "-0.50, 0.1" in text_of(samples_table([row(gold=1.0, reference_gold=0.1)]))


def test_policies_are_called_by_their_names():
    names = ("ppo_seed1", "ppo_seed2")
    assert all(name in text_of(samples_table([row()], names=names)) for name in names)


def test_at_most_eight_samples_are_shown():
    rows = [row(prompt=f"prompt number {i}.") for i in range(20)]
    assert text_of(samples_table(rows)).count("prompt number") == 8


SUMMARY = {
    "reference/score": 0.5,
    "reference/score_std": 0.25,
    "reference/length": 8.0,
    "val/score": 1.5,
    "val/unscored": 0.0,
    "val/win_rate": 0.8,
    "val/win_rate_ci_low": 0.7,
    "val/win_rate_ci_high": 0.9,
    "val/kl": 1.25,
    "val/length": 9.0,
}


def test_the_summary_says_what_got_better_and_what_it_cost():
    text = text_of(policy_summary(SUMMARY))
    for words in ("0.500 (std 0.250)", "1.500", "0.700 to 0.900", "1.25"):
        assert words in text
    assert "without a score" not in text


def test_the_summary_says_how_many_responses_a_judge_left_without_a_score():
    text = text_of(policy_summary(SUMMARY | {"val/unscored": 0.125}))
    assert re.search(r"share without a score.*0\.125", text)


def test_places_name_only_what_is_there(tmp_path):
    assert not any("samples" in line or "W&B" in line for line in places(tmp_path))
    (tmp_path / "samples.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "wandb" / "offline-run-1").mkdir(parents=True)
    lines = places(tmp_path)
    assert any("samples.jsonl" in line for line in lines)
    assert any("wandb sync" in line for line in lines)
