"""What documents name exists: files, functions, commands, and the figures of their tables."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in DOCUMENTS}
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
COMMAND = re.compile(r"python run\.py ((?:[^`\n#|\\]|\\\|)*)")


def build():
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_blocks_are_those_of_the_figures():
    docs = build()
    for name, contents in docs.blocks().items():
        assert docs.with_blocks(TEXTS[name], contents) == TEXTS[name], "run python docs/build.py"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere_and_name_what_is_there(document):
    for text, target in LINK.findall(document.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            # As GitHub makes them: without punctuation.
            anchors = {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}
            assert anchor in anchors, target
        for name in re.findall(r"`([\w.]+)`", text) if file.suffix == ".py" else ():
            *_, last = name.split(".")
            assert re.search(
                rf"^\s*(def|class) {last}\b", file.read_text(encoding="utf-8"), re.MULTILINE
            ), name


def commands() -> list[str]:
    found = [
        c.strip().replace("\\|", "|") for text in TEXTS.values() for c in COMMAND.findall(text)
    ]
    # `-m` and what it sweeps over, flags, and placeholders are for Hydra and for people.
    return sorted({c for c in found if c and not re.search(r"(^| )-|[<>$]|\.\.\.|\|", c)})


@pytest.mark.parametrize("command", commands())
def test_commands_compose(command):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        compose("config", shlex.split(command))
