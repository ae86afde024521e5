import json
from types import SimpleNamespace

from harness.tracking.samples import SampleTable


def evaluated(iteration: int, table: SampleTable, count: int = 6) -> None:
    rows = [{"prompt": f"p{i}", "answer": f"a{iteration}"} for i in range(count)]
    module = SimpleNamespace(evaluation=SimpleNamespace(rows=rows))
    table.on_validation_end(SimpleNamespace(current_epoch=iteration - 1, loggers=[]), module)


def test_the_same_prompts_accumulate_over_iterations(tmp_path):
    table = SampleTable(tmp_path / "samples.jsonl", count=3, keep_iterations=0)
    evaluated(2, table)
    evaluated(4, table)
    rows = [
        json.loads(line)
        for line in (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [(r["iteration"], r["prompt"]) for r in rows] == [
        (i, p) for i in (2, 4) for p in ("p0", "p2", "p4")
    ]
    assert table.latest == rows[3:]


def test_a_resumed_table_forgets_what_came_after_the_checkpoint(tmp_path):
    path = tmp_path / "samples.jsonl"
    table = SampleTable(path, count=2, keep_iterations=0)
    evaluated(2, table)
    evaluated(4, table)
    path.write_text(path.read_text(encoding="utf-8") + '{"half a li', encoding="utf-8")
    resumed = SampleTable(path, count=2, keep_iterations=2)
    assert {row["iteration"] for row in resumed.rows} == {2}
