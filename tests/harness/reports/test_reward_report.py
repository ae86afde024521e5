import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from datamodules.records import Preference, Prompt
from harness.reports.reward_report import judged, length_edges, quantile_edges, write_report
from harness.reports.reward_words import quoted, verdict
from lightning_modules.metrics.preferences import held_out_metrics

NASTY = "`` ``` ````\n# Heading\n| a | b |\n</details><script>x</script>\n~~~\n\x00\x1b\ud800 end"


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_pairs(count: int = 400, longer: float = 0.7) -> list[Preference]:
    """Three pairs a prompt; the preferred response is the longer one in about a share `longer`."""
    lengths = 20 + (5 * draw(count, 2, seed=1).abs()).long() + torch.tensor([0, 100])
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(2))
    pairs = []
    for i, (short, long) in enumerate(lengths.tolist()):
        chosen, rejected = (long, short) if uniform[i] < longer else (short, long)
        prompt = Prompt.from_text(f"Question {i // 3}?")
        texts = f"{i} good ".ljust(chosen, "x"), f"{i} bad ".ljust(rejected, "y")
        pairs.append(Preference(prompt, *texts, strength=float(i % 3)))
    return pairs


def report(
    folder: Path, pairs: list[Preference], margins: Tensor, **more
) -> tuple[str, dict[str, float]]:
    """The text of report.md, and the numbers returned, of responses that lie `margins` apart."""
    base = draw(len(pairs), seed=3)
    given = {"title": "a model", "left_out": {}} | more
    numbers = write_report(
        folder, pairs=pairs, chosen=base + margins, rejected=base.clone(), **given
    )
    return (folder / "report.md").read_text(encoding="utf-8"), numbers


def calibrated(count: int = 400, scale: float = 1.0) -> Tensor:
    """Margins, `scale` times as large as the true log-odds of the preferences."""
    log_odds = 2 * draw(count, seed=4)
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(5))
    return scale * torch.where(uniform < torch.sigmoid(log_odds), log_odds, -log_odds)


def lengths_apart(pairs: list[Preference]) -> Tensor:
    return tensor(*(len(p.chosen) - len(p.rejected) for p in pairs))


def verdict_of(text: str) -> str:
    return re.search(r"^\*\*Verdict\.\*\* (.*)$", text, re.MULTILINE)[1]


def said_of(pairs: list[Preference], margins: Tensor) -> str:
    """The verdict alone, without drawing anything."""
    rows = judged(pairs, margins, torch.zeros(len(pairs)))
    return verdict(rows, held_out_metrics(rows))


def test_pairs_of_one_prompt_are_a_cluster_and_what_is_unknown_is_nan():
    one, two = Prompt.from_text("a"), Prompt.from_text("b")
    rows = judged(
        [
            Preference(one, "long", "no", probability=0.8),
            Preference(two, "x", "y", strength=2.0),
            Preference(Prompt.from_text("a"), "", "zz"),
        ],
        torch.tensor([1.0, 2, 3], requires_grad=True),
        torch.zeros(3),
    )
    assert rows.cluster.tolist() == [0, 1, 0]
    assert rows.chosen_length.tolist() == [4, 1, 0]
    assert rows.rejected_length.tolist() == [2, 1, 2]
    assert rows.probability.isnan().tolist() == [False, True, True]
    assert rows.strength.isnan().tolist() == [True, False, True]
    assert rows.chosen.dtype == torch.float64
    assert not rows.chosen.requires_grad


def test_scores_that_do_not_belong_to_the_pairs_are_refused():
    with pytest.raises(ValueError, match="2 pairs, 3 and 2 scores"):
        judged(some_pairs(2), torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="0 pairs"):
        judged([], torch.zeros(0), torch.zeros(0))


def test_the_numbers_are_the_held_out_metrics_and_those_of_all_buckets(tmp_path):
    pairs, margins = some_pairs(), calibrated()
    _, numbers = report(tmp_path, pairs, margins)
    base = draw(len(pairs), seed=3)
    expected = held_out_metrics(judged(pairs, base + margins, base))
    assert {k: numbers[k] for k in expected} == expected
    for kind in ("by_margin", "by_length", "by_strength"):
        names = [k for k in numbers if k.startswith(f"{kind}/") and k.endswith("/pairs")]
        assert len(names) > 2
        assert sum(numbers[k] for k in names) == len(pairs)
        right = sum(numbers[k] * numbers[k.replace("/pairs", "/accuracy")] for k in names)
        assert right / len(pairs) == pytest.approx(numbers["accuracy"])
    assert [numbers[f"by_strength/{i}/{end}"] for i in (1, 2) for end in ("low", "high")] == [
        *(0, 0),
        *(1, 1),
    ]
    assert not any(k.startswith("val/") for k in numbers)


def test_the_page_says_the_numbers_that_are_returned(tmp_path):
    text, numbers = report(
        tmp_path, some_pairs(), calibrated(), disagreement=(draw(400).abs(),) * 2
    )
    cells = dict(re.findall(r"^\| ([^|]+) \| (-?[\d.]+) \|", text, re.MULTILINE))
    named = {
        "accuracy": "accuracy",
        "longer wins": "accuracy_longer",
        "loss": "loss",
        "Brier score": "brier",
        "ECE": "ece",
        "temperature": "temperature",
        "ECE, tempered": "ece_tempered",
        "score and length": "score_length_correlation",
        "score and length, within pairs": "score_length_correlation_within",
        "disagreement, right": "disagreement/right",
        "disagreement, wrong": "disagreement/wrong",
    }
    for name, key in named.items():
        assert cells[name] == f"{numbers[key]:.3f}", name
    interval = f"{numbers['accuracy_ci_low']:.3f} to {numbers['accuracy_ci_high']:.3f}"
    assert f"95% interval {interval}" in text
    assert "ceiling" not in text
    for key in (k for k in numbers if k.startswith("by_length") and k.endswith("accuracy")):
        low, high, count = (numbers[key.replace("accuracy", k)] for k in ("low", "high", "pairs"))
        assert f"| {low:.4g} to {high:.4g} | {count} | {numbers[key]:.3f} |" in text


def test_disagreement_is_told_apart_by_whether_the_pair_is_right(tmp_path):
    spread = (tensor(1, 2, 3), tensor(3, 4, 5))
    _, numbers = report(tmp_path, some_pairs(3), tensor(1, -1, 2), disagreement=spread)
    assert numbers["disagreement/right"] == pytest.approx(3)
    assert numbers["disagreement/wrong"] == pytest.approx(3)
    _, numbers = report(tmp_path, some_pairs(3), tensor(-1, 1, 2), disagreement=spread)
    assert numbers["disagreement/right"] == pytest.approx(3.5)
    assert numbers["disagreement/wrong"] == pytest.approx(2)


def test_where_the_truth_is_known_the_ceiling_is_shown(tmp_path):
    prompt = Prompt.from_text("q")
    pairs = [Preference(prompt, "a", "b", probability=p) for p in (0.9, 0.2)]
    text, numbers = report(tmp_path, pairs, tensor(1, 1))
    assert numbers["bayes_accuracy"] == pytest.approx(0.85)
    assert "| ceiling | 0.850 |" in text


def test_a_model_that_only_counts_characters_is_found_out(tmp_path):
    pairs = some_pairs()
    text, numbers = report(tmp_path, pairs, lengths_apart(pairs) / 100)
    said = verdict_of(text)
    assert numbers["accuracy"] == numbers["accuracy_longer"]
    assert "not shown to be better than always taking the longer response" in said
    assert "nearly that of length alone" in said
    pairs = some_pairs(longer=0.3)
    said = said_of(pairs, -lengths_apart(pairs) / 100)
    assert "not shown to be better than always taking the shorter response" in said
    assert "nearly that of length alone" in said


def test_a_model_that_knows_its_pairs_is_praised_for_no_more_than_is_shown():
    said = said_of(some_pairs(longer=0.5), calibrated())
    assert ", more than always taking the " in said
    assert "as confident as it should be" in said
    assert "does not lean on length" in said


def test_a_model_that_favours_length_beyond_the_labels_leans_on_it():
    pairs = some_pairs(longer=0.5)
    lean = lengths_apart(pairs).sign() * 2
    assert "leans towards longer" in said_of(pairs, calibrated() + lean)
    assert "leans towards shorter" in said_of(pairs, calibrated() - lean)


def test_random_errors_are_no_leaning_towards_shorter_responses():
    pairs = some_pairs(longer=0.9)
    said = said_of(pairs, calibrated(scale=0.5))
    assert "does not lean on length" in said


def test_the_verdict_names_a_coin_a_reversal_and_both_kinds_of_miscalibration():
    pairs = some_pairs(longer=0.5)
    coin = said_of(pairs, draw(400, seed=6))
    assert "not shown to be better than a coin" in coin
    assert "over-confident" in coin
    assert "fewer than a coin" in said_of(pairs, -calibrated())
    assert "over-confident" in said_of(pairs, calibrated(scale=5))
    assert "under-confident" in said_of(pairs, calibrated(scale=0.1))


@pytest.mark.parametrize("count", [1, 3])
def test_few_pairs_have_a_report_without_a_verdict(tmp_path, count):
    text, numbers = report(tmp_path, some_pairs(count), tensor(*[0.5] * count))
    assert "too few" in verdict_of(text)
    assert numbers["accuracy"] == 1
    assert "None: no pair is in the wrong order." in text


def test_scores_that_are_all_tied_have_a_report(tmp_path):
    pairs, nothing = some_pairs(40), torch.zeros(40)
    numbers = write_report(
        tmp_path, title="t", pairs=pairs, chosen=nothing, rejected=nothing, left_out={}
    )
    assert numbers["accuracy"] == 0.5
    assert numbers["by_margin/1/pairs"] == 40
    assert "better than a coin" in verdict_of((tmp_path / "report.md").read_text(encoding="utf-8"))


def test_responses_of_equal_length_say_nothing_of_length(tmp_path):
    pairs = [Preference(Prompt.from_text(str(i)), "a", "b") for i in range(40)]
    text, numbers = report(tmp_path, pairs, calibrated(40))
    assert "nothing is known" in verdict_of(text)
    assert numbers["by_length/1/pairs"] == 40
    assert "By strength" not in text


def test_every_picture_is_a_picture_and_is_shown(tmp_path):
    text, _ = report(tmp_path, some_pairs(60), calibrated(60))
    shown = re.findall(r"^!\[[^\]]+\]\((report/\w+\.png)\)$", text, re.MULTILINE)
    assert sorted(shown) == sorted(f"report/{p.name}" for p in (tmp_path / "report").iterdir())
    assert len(shown) == 5
    for name in shown:
        with Image.open(tmp_path / name) as image:
            assert image.format == "PNG"
            assert 400 < image.width < 1000
            assert image.convert("L").getextrema()[0] < 100
            image.load()


def test_the_ten_worst_mistakes_are_the_ten_worst_from_the_worst_on(tmp_path):
    margins = draw(60, seed=7)
    text, _ = report(tmp_path, some_pairs(60), margins)
    expected = [int(i) for i in margins.argsort()[:10]]
    shown = re.findall(r"^### \d+\. Pair (\d+), margin (-[\d.]+)$", text, re.MULTILINE)
    assert [int(number) - 1 for number, _ in shown] == expected
    assert [float(m) for _, m in shown] == pytest.approx(margins[expected].tolist(), abs=6e-4)
    base = draw(60, seed=3)
    for i in expected:
        assert f"Labelled better, score {base[i] + margins[i]:.3f}\n\n```text\n{i} good" in text
        assert f"Labelled worse, score {base[i]:.3f}\n\n```text\n{i} bad" in text


def test_no_text_can_break_the_page(tmp_path):
    pairs = [Preference(Prompt.from_text(NASTY), NASTY, NASTY + "!")]
    text, _ = report(
        tmp_path, pairs, tensor(-1.0), title="a `b`\n# c | <i>", left_out={"too | long\n<b>": 2}
    )
    outside, fence = [], None
    for line in text.splitlines():
        ticks = re.match(r"`{3,}", line)
        if fence is None and ticks:
            fence = ticks[0]
        elif fence is not None and line == fence:
            fence = None
        elif fence is None:
            outside.append(line)
    assert fence is None
    page = "\n".join(outside)
    assert "script" not in page
    assert [line for line in outside if line.startswith("# ")] == [r"# a \`b\` \# c \| \<i\>"]
    assert r"| too \| long \<b\> | 2 |" in page
    assert text.count("<script>") == 3


@pytest.mark.parametrize("ticks", [1, 2, 3, 7])
def test_a_fence_is_longer_than_any_in_the_text(ticks):
    fence = quoted("`" * ticks).splitlines()[-1]
    assert fence == "`" * max(3, ticks + 1)


def test_long_texts_keep_their_ends_in_lines_of_a_screen():
    shown = quoted("begin " + "word " * 1000 + "end")
    assert shown.startswith("```text\nbegin word")
    assert shown.endswith("word end\n```")
    assert len(shown) < 350
    assert max(map(len, quoted("x" * 10_000).splitlines())) <= 96


def test_rows_left_out_are_shown_with_their_reasons_and_so_is_the_note(tmp_path):
    left_out = {"ties": 12, "identical after truncation": 3, "never": 0}
    text, _ = report(tmp_path, some_pairs(30), calibrated(30), left_out=left_out, note="A *note*.")
    assert "| ties | 12 |\n| identical after truncation | 3 |" in text
    assert "never" not in text
    assert text.endswith("\n\nA *note*.\n")
    assert "Nothing: every row" in report(tmp_path, some_pairs(30), calibrated(30))[0]


def test_quantiles_share_values_out_evenly_and_keep_few_values_apart():
    edges = quantile_edges(torch.arange(101).double(), 5)
    assert edges.tolist() == [0, 20, 40, 60, 80, 100]
    assert quantile_edges(tensor(3, 1, 1, 2), 5).tolist() == [1, 2, 3, 3]
    assert quantile_edges(tensor(7, 7), 5).tolist() == [7, 7]
    mostly_top = torch.cat([torch.arange(10), torch.full((90,), 10)]).double()
    assert quantile_edges(mostly_top, 5).tolist() == [0, 10, 10]


def test_lengths_are_parted_at_zero():
    differences = torch.arange(-30, 61).double()
    edges = length_edges(differences).tolist()
    assert edges[0] == -30
    assert edges[-1] == 60
    assert len(edges) == 7
    assert edges[3] == 0
    assert length_edges(tensor(-4, -4)).tolist() == [-4, 0]
    assert length_edges(tensor(0, 6)).tolist() == [0, 6]
    assert length_edges(tensor(0, 0)).tolist() == [0, 0]
