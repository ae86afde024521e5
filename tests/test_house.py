"""The house stays in order: rooms of a size that can be overlooked, and imports that point down.

docs/architecture.md is the drawing; what it names exists.
"""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("datamodules", "harness", "lightning_modules")
FILES = sorted(
    path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
)
WITH_RUN = [Path("run.py"), *FILES]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MOST_FILES = 14
LONGEST_CLASS = 200
# From the top floor down: a room imports from its own floor's other rooms only what is listed
# further down.
FLOORS = (
    "run",
    "harness.program",
    "harness.command_line",
    "harness.sweeps",
    "harness.tasks",
    "harness.rounds",
    "harness.comparison",
    "harness.web",
    "harness.chat",
    "harness.evaluation",
    "harness.judging",
    "harness.generation",
    "harness.pipeline",
    "harness.parts",
    "harness.checks",
    "harness.progress",
    "harness.feedback",
    "harness.reports",
    "harness.tracking",
    "harness.pictures",
    "harness.runs",
    "harness.disk",
    "harness",
    "lightning_modules",
    "lightning_modules.metrics",
    "lightning_modules.rollouts",
    "lightning_modules.rewards",
    "lightning_modules.judges",
    "lightning_modules.models",
    "lightning_modules.forward",
    "lightning_modules.options",
    "lightning_modules.objectives",
    "datamodules",
    "datamodules.sources.public",
    "datamodules.sources",
    "datamodules.sources.reading",
    "datamodules.tokenization",
)
# Names for the whole house, which import nothing of it: errors and records.
GROUND = (
    "datamodules.records",
    "harness.errors",
    "harness.printable",
    "harness.quiet",
    "harness.ranks",
    "lightning_modules.errors",
)
# What opens text, and what starts a process whose text is read.
OPENERS = ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile")
NO_TEXT = ("tempfile.TemporaryFile", "os.open", "Image.open")
PROCESSES = ("run", "Popen", "check_output", "check_call")
HEAVY = ("torch", "transformers", "pytorch_lightning", "peft", "wandb", "datasets")


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """The folder that a module is in."""
    known = [room for room in FLOORS if module == room or module.startswith(f"{room}.")]
    return max(known, key=len)


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports from, functions' own imports included."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if is_module(inner) else node.module


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_no_room_has_more_files_than_one_can_overlook():
    folders = {path.parent for path in FILES}
    counts = {str(f): sum(path.parent == f for path in FILES) for f in folders}
    assert {folder: n for folder, n in counts.items() if n > MOST_FILES} == {}


def test_no_class_is_longer_than_can_be_read_at_a_sitting():
    lengths = {
        f"{path}:{node.name}": node.end_lineno - node.lineno + 1
        for path in FILES
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST_CLASS} == {}


def test_files_say_in_their_first_line_what_they_are():
    for path in FILES:
        said = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        assert said, path
        assert "TODO" not in said, path


@pytest.mark.parametrize("path", WITH_RUN, ids=str)
def test_imports_point_down(path):
    here = room_of(module_of(path))
    for module in imports_of(path):
        if not module.startswith(PACKAGES) or module in PACKAGES:
            continue
        there = room_of(module)
        down = FLOORS.index(there) >= FLOORS.index(here)
        wings = {here.split(".")[0], there.split(".")[0]} == {"lightning_modules", "datamodules"}
        assert (down and not wings) or module in GROUND, f"{path} imports {module}"


def forgets_encoding(call: ast.Call) -> bool:
    """Whether a call reads or writes text in whatever encoding the locale has."""
    called = call.func.attr if isinstance(call.func, ast.Attribute) else None
    name = call.func.id if isinstance(call.func, ast.Name) else called
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in given or ast.unparse(call.func) in NO_TEXT:
        return False
    if name in PROCESSES:
        return bool(given.keys() & {"text", "universal_newlines"})
    if called in ("read_text", "write_text"):
        return True
    words = [a.value for a in (*call.args, *given.values()) if isinstance(a, ast.Constant)]
    binary = any(re.fullmatch(r"[rwax+]*b[rwax+]*", str(word)) for word in words)
    return name in OPENERS and not binary and "utf-8" not in words


@pytest.mark.parametrize("folder", [*PACKAGES, "benchmarks", "docs", "tests"])
def test_text_is_utf8_whatever_the_locale(folder):
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and forgets_encoding(node)
    ]
    assert found == [], 'say encoding="utf-8"'


def test_no_file_imports_itself_over_others():
    ours = {module_of(path): path for path in WITH_RUN}
    graph = {module: ours.keys() & set(imports_of(path)) for module, path in ours.items()}
    assert any(graph.values())
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError and names the files


def test_the_mathematics_imports_torch_alone():
    for path in FILES:
        if "objectives" in path.parts:
            for module in imports_of(path):
                allowed = ("torch", "math", "collections.abc", "lightning_modules.objectives")
                assert module.startswith(allowed), f"{path} imports {module}"


def run_python(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=None,
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )


@pytest.mark.parametrize(
    "task",
    ["train", "evaluate", "export", "compare", "cache", "generate", "judge", "label", "chat"],
)
def test_a_task_is_imported_without_what_takes_seconds(task):
    code = f"import sys, harness.tasks.{task}; print(*sys.modules)"
    done = run_python(code, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & set(HEAVY) == set()


@pytest.mark.parametrize(
    "options",
    [
        "algo.iterations=0",
        "algo.bta=0.1",
        "resume=nowhere",
        "algo=sft algo.epochs=0",
        "stages.reward_model.margin_coef=-1",
        "model.vocab_size=1",
        "reward=checkpoint",
        "reward.pessimism=-1",
        "reward=function reward.path=none",
        "reward=judge",
        "reward=judge judge=helpful",
        "reward=judge judge=pairwise judge.model=x",
        "judge=helpful judge.model=x judge.base_url=http://x/v1 judge.key_from=NO_SUCH_KEY",
        "data=files",
        "data=files data.path=nowhere.jsonl",
        "data.val_pairs=0",
        "algo.critic=adapter",
        "data.suits.beta=1",
        "task=compare runs=nothing",
        "task=evaluate evaluation.prompts=0",
        "task=evaluate judge=helpful judge.model=x",
        "task=judge judge.model=x pairs=0",
        "task=judge judge.model=x items=nothing.jsonl",
        "task=export",
        "task=export run=nothing",
        "task=cache clear=nothing",
        "task=label store=nowhere",
        "task=label items=nothing store=nowhere",
        "task=label export=pairs.jsonl store=nowhere",
        "task=generate samples=0 policy=nowhere",
        "task=chat",
        "callbacks.keep_checkpoints=0",
    ],
)
def test_what_is_wrong_is_said_before_anything_heavy_is_imported(options, tmp_path):
    """With the heavy libraries out of reach, the message comes all the same."""
    code = f"""
import runpy, sys
for name in {HEAVY!r}:
    sys.modules[name] = None
sys.argv = ["run.py", *{options.split()!r}, "hydra.run.dir={tmp_path}/run"]
runpy.run_path({str(ROOT / "run.py")!r}, run_name="__main__")
"""
    done = run_python(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: "), done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_without_wandb_needs_neither_it_nor_datasets(tmp_path):
    """As on a node that has neither."""
    code = """
import runpy, sys
for name in ("wandb", "datasets"):
    sys.modules[name] = None
runpy.run_path("run.py", run_name="__main__")
"""
    done = run_python(
        f"import sys; sys.argv = ['run.py', *sys.argv[1:]]\n{code}",
        *("budget=smoke", "logger=none", "data.train_pairs=96", "data.val_pairs=48"),
        *("data.train_demonstrations=96", "stages.sft.epochs=1", "algo.iterations=1"),
        *("algo.prompts_per_iteration=8", "algo.val_prompts=8", "hardware=cpu"),
        *(f"cache_dir={tmp_path}/cache", f"hydra.run.dir={tmp_path}/run"),
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "summary.json").is_file()


def test_the_drawing_names_every_room_and_only_files_that_exist():
    named = re.findall(r"`([\w/]+(?:\.py|/))", ARCHITECTURE)
    assert named
    for name in named:
        assert (ROOT / name).exists(), name
    rooms = {f"{path.parent}/" for path in FILES}
    assert rooms - set(re.findall(r"`([\w/]+/)`", ARCHITECTURE)) == set()
