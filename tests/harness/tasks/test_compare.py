"""task=compare: its pages say what the files of the runs say, and open without a network."""

import csv
import html
import io
import json
import re
import shutil
import subprocess
import time

import matplotlib.image
import numpy as np
import pytest

from datamodules.records import DataError
from harness.comparison.grouping import configurations
from harness.comparison.measures import first_reached, measure
from harness.comparison.publishing import curves_grid, report_blocks
from harness.comparison.reading import collect
from harness.comparison.writing import write_comparison
from harness.reports.plain_console import PlainConsole
from harness.tasks.compare import compare, terminal_table
from harness.tasks.train import train
from lightning_modules.errors import OptionError
from tests.harness.comparison.synthetic_runs import EPISODES, keep_samples, write_run

CELL = r"<t[dh]>(.*?)</t[dh]>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def compared(configure, tmp_path):
    """compared(runs, *overrides): what compare returns, and its folder."""

    def make(runs, *overrides, name="comparison"):
        folder = tmp_path / name
        cfg = configure(folder, "task=compare", f"runs={runs}", *overrides)
        return compare(cfg), folder

    return make


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two betas of three seeds: 0.1 ends higher in score and lower in gold, for certain."""
    tmp_path = tmp_path_factory.mktemp("runs")
    ends = {0.1: (0.9, 1.0, 1.25), 0.2: (0.25, 0.3, 0.5)}
    for beta, finals in ends.items():
        for seed, end in enumerate(finals):
            write_run(
                tmp_path / "sweep" / f"{beta}_{seed}",
                seed=seed,
                scores=(end / 4, end / 2, end),
                kl=10 * end,
                gold=1 - end / 2,
                algo__beta=beta,
            )
    write_run(tmp_path / "sweep" / "stopped", finished=False)
    return tmp_path / "sweep"


@pytest.fixture(scope="module")
def folder(sweep, tmp_path_factory):
    """The comparison of the sweep."""
    folder = tmp_path_factory.mktemp("comparison")
    write_comparison([str(sweep)], folder)
    return folder


def tables(text: str) -> list[list[list[str]]]:
    """The cells of every Markdown table."""
    found = [[]]
    for line in text.splitlines():
        if line.startswith("| "):
            found[-1].append([c.replace("\\", "") for c in line[2:-2].split(" | ")])
        elif found[-1] and not line.startswith("|---"):
            found.append([])
    return [table for table in found if table]


def html_tables(text: str) -> list[list[list[str]]]:
    return [
        [
            [html.unescape(re.sub("</?small>", "", c)) for c in re.findall(CELL, row)]
            for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        ]
        for table in re.findall(r"<table>(.*?)</table>", text, re.DOTALL)
    ]


def numbers(cell: str) -> list[float]:
    return [float(x.replace(",", "")) for x in re.findall(r"-?[\d,]*\.?\d+", cell)]


def last_rows(folder) -> dict[float, list[dict[str, str]]]:
    """The last row of metrics.csv of every finished run, by beta, read by other means."""
    found = {}
    for path in sorted(folder.glob("*/summary.json")):
        beta = json.loads((path.parent / "run.json").read_text(encoding="utf-8"))["config"]["algo"][
            "beta"
        ]
        with open(path.parent / "metrics.csv", newline="", encoding="utf-8") as file:
            found.setdefault(beta, []).append(list(csv.DictReader(file))[-1])
    return found


def test_numbers_of_both_pages_are_those_of_the_files(folder, sweep):
    text = (folder / "comparison.md").read_text(encoding="utf-8")
    assert tables(text) == html_tables((folder / "comparison.html").read_text(encoding="utf-8"))
    finals, score, gold, *_ = tables(text)
    ends = last_rows(sweep)
    for line, beta in zip(finals[1:-1], (0.1, 0.2), strict=True):
        cells = dict(zip(finals[0], line, strict=True))
        assert cells["configuration"] == f"algo.beta={beta}"
        assert cells["seeds"] == "3: 0, 1, 2"
        for metric in ("val/score", "val/gold", "val/win_rate", "val/kl"):
            values = [float(row[metric]) for row in ends[beta]]
            # Of 27 resamples of three, each end of the interval is one value three times.
            expected = [np.mean(values), min(values), max(values)]
            assert numbers(cells[metric]) == pytest.approx(expected, abs=5e-4 + 1e-9)
    for table, metric, sign in ((score, "val/score", 1), (gold, "val/gold", -1)):
        a, b = ([float(row[metric]) for row in ends[beta]] for beta in (0.1, 0.2))
        _, _, difference, decided, improvement, decided_too = table[1]
        assert numbers(difference)[0] == pytest.approx(np.mean(a) - np.mean(b), abs=5e-4 + 1e-9)
        assert decided.startswith(f"{'A' if sign > 0 else 'B'} is higher; too few seeds")
        assert "10%" in decided
        assert decided_too == decided
        assert numbers(improvement) == [(sign + 1) / 2] * 3


def test_the_threshold_is_half_way_and_says_who_reaches_it(folder, sweep):
    text = (folder / "comparison.md").read_text(encoding="utf-8")
    ends = [float(row["val/score"]) for row in last_rows(sweep)[0.1]]
    threshold = np.mean(ends) / 2  # the reference has 0
    assert f"val/score of {threshold:.3f}" in text
    header, *rows, _ = tables(text)[0]
    best, other = (dict(zip(header, row, strict=True)) for row in rows)
    # Evaluations are after 2, 4, 6 iterations with a quarter, half and all of the end.
    steps = [4 if end / 2 >= threshold else 6 for end in ends]
    assert numbers(best["episodes to threshold"])[0] == round(np.mean(steps) * EPISODES)
    assert numbers(best["seconds to threshold"])[0] == pytest.approx(np.mean(steps), abs=0.05)
    assert other["episodes to threshold"] == "0 of 3 reach it"


def test_a_threshold_is_reached_at_the_first_evaluation_at_or_above_it(tmp_path):
    write_run(tmp_path / "run", scores=(0.2, 0.6, 0.4, 0.6))
    (run,), _ = collect([str(tmp_path)])
    assert first_reached(run, 0.6) == (4 * EPISODES, 4)
    assert first_reached(run, 0.1) == (2 * EPISODES, 2)
    assert first_reached(run, 0.7) is None


def test_what_overlaps_is_not_decided_and_one_seed_has_no_interval(compared, tmp_path):
    for i, (beta, end) in enumerate([(0.1, 0.0), (0.1, 1.0), (0.2, 0.5), (0.2, 0.4), (0.3, 0.1)]):
        write_run(tmp_path / "runs" / f"{i}", seed=i, scores=(end,), algo__beta=beta)
    _, folder = compared(tmp_path / "runs")
    finals, pairs, *_ = tables((folder / "comparison.md").read_text(encoding="utf-8"))
    assert "0.100 (no interval)" in finals[3]
    assert [row[3] for row in pairs[1:]] == ["not decided"] * 3
    assert [row[5] for row in pairs[1:]] == ["not decided"] * 3


@pytest.mark.parametrize("width", [80, 120])
def test_numbers_are_whole_on_a_terminal(width, sweep, folder):
    page = tables((folder / "comparison.md").read_text(encoding="utf-8"))[0]
    console = PlainConsole(width=width, file=io.StringIO())
    found = configurations(collect([str(sweep)])[0])
    console.print(terminal_table(measure(found), width))
    shown = console.file.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    for row in page[1:]:
        for cell in (row[0], *row[2:6]):
            assert all(part in shown for part in re.split(r" (?=\[)", cell)), cell
    assert ("threshold" in shown) == (width == 120)


def test_options_that_differ_and_what_is_left_out_are_on_the_page(compared, sweep, capsys):
    returned, folder = compared(sweep)
    assert list(returned) == ["algo.beta=0.1", "algo.beta=0.2"]
    text = (folder / "comparison.md").read_text(encoding="utf-8")
    assert ["algo.beta", "0.1", "0.2"] in [row for table in tables(text) for row in table]
    assert "1 run folder left out" in text
    said = " ".join(capsys.readouterr().out.split())  # however its lines are broken
    for where in (text.replace("\\", ""), said):
        assert "not finished" in where
        assert str(sweep / "stopped") in where
    for name in ("comparison.html", "comparison.md", "curves.png", "frontier.png"):
        assert (folder / name).is_file()
        assert name in said


def test_a_page_loads_nothing_and_holds_its_pictures(folder):
    page = (folder / "comparison.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    sources = re.findall(r'src(?:set)?="([^"]*)"', page)
    assert len(sources) == 4  # two pictures, each for wide and for narrow screens
    assert all(source.startswith("data:image/png;base64,") for source in sources)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, a browser, to open the page")
def test_a_browser_without_a_network_shows_curves_and_table(folder, tmp_path):
    page = (folder / "comparison.html").as_uri()
    browser = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,3000"]
    browser += [f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    browser += ["--virtual-time-budget=2000"]
    shot = tmp_path / "shot.png"
    command = [*browser, f"--screenshot={shot}", "--dump-dom", page]
    dump = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=120, encoding="utf-8"
    )
    image = matplotlib.image.imread(shot)[..., :3]
    # The blue and orange of the two lines are there, on many rows, and so is text.
    for colour in ((0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)):
        near = np.abs(image - np.array(colour) / 255).max(axis=-1) < 0.02
        assert near.any(axis=1).sum() > 300
    assert (image.max(axis=-1) < 0.3).sum() > 1000
    finals = tables((folder / "comparison.md").read_text(encoding="utf-8"))[0]
    assert html_tables(dump.stdout)[0] == finals


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, a browser, to open the page")
def test_nothing_is_wider_than_a_phone_or_a_screen(compared, tmp_path):
    """Long names and long words too: what is wide scrolls in a box of its own."""
    for beta in (0.1, 0.2):
        long = {"model": {"name": "m" * 300}, "algo__optimizer": f"{beta}" + "w" * 200}
        run = write_run(tmp_path / "runs" / f"{beta}", gold=0.5, algo__beta=beta, **long)
        keep_samples(run, [{"prompt": "p" * 300, "answer": "a" * 600, "reference_answer": "r"}])
    _, folder = compared(tmp_path / "runs")
    page = html.escape((folder / "comparison.html").read_text(encoding="utf-8"))
    widths = (390, 1280)
    frames = "".join(f'<iframe width={w} height=844 srcdoc="{page}"></iframe>' for w in widths)
    script = """onload = () => document.body.append("widths: " + [...document.querySelectorAll(
        "iframe")].map(f => f.contentDocument.documentElement.scrollWidth).join(" ") + ";")"""
    outer = tmp_path / "frames.html"
    style = "<style>iframe { border: 0; display: block }</style>"
    outer.write_text(f"<script>{script}</script>{style}<body>{frames}", encoding="utf-8")
    browser = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    browser += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1800"]
    dump = subprocess.run(
        [*browser, "--virtual-time-budget=5000", "--dump-dom", outer.as_uri()],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        encoding="utf-8",
    )
    assert "widths: 390 1280;" in dump.stdout[-200:], dump.stdout[-200:]


def test_hundreds_of_runs_take_seconds(compared, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(300):
        scores = tuple(np.linspace(0, 1, 40) + 0.1 * rng.normal(size=40))
        beta = i // 10
        write_run(tmp_path / "runs" / f"{i}", seed=i % 10, scores=scores, gold=0.5, algo__beta=beta)
    started = time.process_time()
    returned, folder = compared(tmp_path / "runs")
    assert time.process_time() - started < 20
    assert len(returned) == 30
    finals, pairs, *_ = tables((folder / "comparison.md").read_text(encoding="utf-8"))
    assert len(finals) == 32
    assert len(pairs) == 30  # the best against each other one


def test_runs_as_training_leaves_them_are_compared(configure, compared, tmp_path):
    ends = {}
    for beta in (0.05, 0.5):  # reward=gold: without the time that a reward model takes
        overrides = ("algo=reinforce", "reward=gold", f"algo.beta={beta}")
        ends[f"algo.beta={beta}"] = train(configure(tmp_path / "runs" / f"{beta}", *overrides))
    returned, folder = compared(tmp_path / "runs")
    assert returned == pytest.approx({name: end["val/score"] for name, end in ends.items()})
    text = (folder / "comparison.md").read_text(encoding="utf-8")
    _, *rows, reference = tables(text)[0]
    for line in rows:
        end = ends[line[0]]
        shown = [numbers(cell)[0] for cell in line[2:6]]
        metrics = ("val/score", "val/gold", "val/win_rate", "val/kl")
        assert shown == pytest.approx([end[m] for m in metrics], abs=5e-4 + 1e-9)
    assert reference[0] == "reference"
    known = [numbers(cell)[0] for cell in reference[2:7]]
    assert known == pytest.approx(
        [end["reference/score"], end["reference/gold"], 0.5, 0, end["reference/length"]], abs=5e-4
    )
    assert text.count("\n| reference | ") == 1 + 6  # of the numbers, and an answer to each prompt
    assert "Few seeds" in text
    assert "different reference" not in text


def test_a_report_has_the_words_pictures_and_runs_of_the_page(sweep, folder):
    wr = pytest.importorskip("wandb_workspaces.reports.v2", reason="needs the extra [publish]")
    found = write_comparison([str(sweep)], folder)
    here = {"entity": "someone", "project": "rlhf-ladder"}
    grid = curves_grid(wr, here, found.measures.configurations)
    blocks = report_blocks(wr, found.blocks, wr.Runset(**here), grid)
    texts = "\n\n".join(block.text for block in blocks if isinstance(block, wr.MarkdownBlock))
    assert tables(texts) == tables((folder / "comparison.md").read_text(encoding="utf-8"))
    media = [p for b in blocks if isinstance(b, wr.PanelGrid) for p in b.panels][:2]
    assert [panel.media_keys for panel in media] == [["comparison/curves"], ["comparison/frontier"]]
    for runset, configuration in zip(grid.runsets, found.measures.configurations, strict=True):
        assert runset.name == configuration.name
        assert all(run.wandb_id in runset.filters for run in configuration.runs)


def test_options_that_make_no_sense_are_refused(configure, tmp_path, monkeypatch):
    with pytest.raises(OptionError, match=r"runs=\[\]: give a folder"):
        compare(configure(tmp_path / "c", "task=compare"))
    with pytest.raises(DataError, match="no such folder"):
        compare(configure(tmp_path / "c", "task=compare", f"runs=[{tmp_path / 'nowhere'}]"))
    on = ("task=compare", f"runs={tmp_path}", "publish=true")
    with pytest.raises(OptionError, match="publish=True: needs logger=wandb"):
        compare(configure(tmp_path / "c", *on, "logger=csv"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(OptionError, match=r"\[publish\]|wandb login"):
        compare(configure(tmp_path / "c", *on, "logger=wandb"))
    assert not (tmp_path / "c").exists()
