"""What a run is made of is known by its content, wherever it lies and whatever it is called."""

import json
import shutil
import sys

import pytest

from harness.parts.choices import Choices
from harness.parts.inputs import inputs

ROW = '{"prompt": "Why %d?", "chosen": "Because of %d.", "rejected": "No."}\n'


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(ROW % (i, i) for i in range(30)), encoding="utf-8")
    return path


@pytest.fixture
def made_of(configure, tmp_path):
    """made_of(*overrides): the inputs of such a run."""

    def read(*overrides):
        cfg = configure(tmp_path / "run", *overrides)
        return inputs(cfg, Choices(cfg).source)

    return read


def test_data_is_its_content(made_of, pairs, tmp_path):
    before = made_of("data=files", f"data.path={pairs}")
    copy = shutil.copy(pairs, tmp_path / "copy.jsonl")
    assert made_of("data=files", f"data.path={copy}") == before
    with open(pairs, "a", encoding="utf-8") as file:
        file.write(ROW % (99, 99))
    assert made_of("data=files", f"data.path={pairs}") != before
    assert json.loads(json.dumps(before)) == before


def test_a_model_is_the_files_of_its_folder(made_of, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
        (tmp_path / name / "model.safetensors").write_bytes(b"\x00" * 100)
        (tmp_path / name / "README.md").write_text(name, encoding="utf-8")
    model = lambda name: made_of(f"model.pretrained={tmp_path / name}")  # noqa: E731
    one = model("one")
    assert set(one["model.pretrained"]["files"]) == {"config.json", "model.safetensors"}
    assert model("two") == one
    (tmp_path / "two" / "model.safetensors").write_bytes(b"\x00" * 99 + b"\x01")  # of equal size
    assert model("two") != one


def test_a_template_is_its_text(made_of, tmp_path):
    (tmp_path / "model").mkdir()
    template = tmp_path / "chat.jinja"
    options = (
        f"model.pretrained={tmp_path / 'model'}",
        f"model.chat_template={template}",
    )
    template.write_text("{{ messages }}", encoding="utf-8")
    before = made_of(*options)
    template.write_text("{{ messages[0] }}", encoding="utf-8")
    assert made_of(*options) != before


def test_a_reward_function_is_its_code_and_what_it_uses_beside_it(made_of, tmp_path, monkeypatch):
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    helper, reward = folder / "my_helper.py", folder / "my_reward.py"
    helper.write_text("def half(x):\n    return x / 2\n", encoding="utf-8")
    reward.write_text(
        "import json\nfrom my_helper import half\n\n\ndef score(prompts, responses):\n"
        "    return [half(len(r)) for r in responses]\n",
        encoding="utf-8",
    )
    options = ("reward=function", "reward.path=my_reward:score")
    before = made_of(*options)
    assert set(before["reward.path"]) == {"my_reward", "my_helper"}  # and not json
    helper.write_text("def half(x):\n    return x / 3\n", encoding="utf-8")
    assert made_of(*options) != before
    # What is trained without scores does not depend on it.
    assert "reward.path" not in made_of("algo=reward_model", *options)
    for name in ("my_reward", "my_helper"):
        sys.modules.pop(name)


def test_parts_of_a_combined_reward_are_inputs(made_of, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_part.py").write_text(
        "def score(p, r):\n    return [1.0] * len(r)\n", encoding="utf-8"
    )
    found = made_of("reward=combined", "reward.rewards.function.path=my_part:score")
    assert set(found["reward.rewards.function.path"]) == {"my_part"}
    sys.modules.pop("my_part")


def test_a_value_from_the_environment_is_an_input_and_a_secret_is_none(made_of, monkeypatch):
    options = ("algo.beta='${oc.decode:${oc.env:BETA}}'", "+my_token='${oc.env:TOKEN}'")
    found = {}
    for beta, token in (("0.1", "abcdef"), ("0.2", "abcdef"), ("0.1", "ghijkl")):
        monkeypatch.setenv("BETA", beta)
        monkeypatch.setenv("TOKEN", token)
        found[beta, token] = made_of(*options)
    assert found["0.1", "abcdef"] != found["0.2", "abcdef"]
    assert found["0.1", "abcdef"] == found["0.1", "ghijkl"]
