"""A model as people have it, through everything: SmolLM2-135M-Instruct at the smallest budget."""

import json
import math
import re
import subprocess
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from harness.parts.hardware import cpu_has_bfloat16
from lightning_modules.options.learning_rates import suited_rates

ROOT = Path(__file__).parents[3]
PARAMETERS = 134_515_008
BUDGET = (
    "data.train_pairs=8",
    "data.val_pairs=6",
    "data.train_demonstrations=8",
    "data.max_response_tokens=16",
    "hardware=cpu",
    "logger=csv",
)
REWARD = "def short(prompts, responses):\n    return [-len(text) / 100 for text in responses]\n"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(real_model, warm_python, tmp_path_factory):
    """run(folder, *overrides): what a command says that ends well, and its folder."""
    root = tmp_path_factory.mktemp("runs")
    (root / "rewards_of_this_test.py").write_text(REWARD, encoding="utf-8")

    def start(folder: str, *overrides: str) -> tuple[Path, str]:
        options = (f"hydra.run.dir={root / folder}", f"cache_dir={root / 'cache'}", *overrides)
        done = subprocess.run(
            [*warm_python, str(ROOT / "run.py"), *BUDGET, *options],
            cwd=root,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return root / folder, done.stdout

    return start


@pytest.fixture(scope="module")
def trained(run, real_model) -> tuple[Path, str]:
    """PPO on adapters by a function, as the README tells it to those with a model of their own."""
    return run(
        "ppo",
        "algo=ppo",
        f"model.pretrained={real_model}",
        "adapter=lora",
        "algo.epochs=1",
        "algo.iterations=3",
        "algo.prompts_per_iteration=4",
        "algo.val_prompts=6",
        "reward=function",
        "reward.path=rewards_of_this_test:short",
    )


def test_the_start_up_check_passes_and_the_table_shows_the_rate_of_its_size(trained, real_model):
    folder, _ = trained
    said = (folder / "run.log").read_text(encoding="utf-8")  # of the same width everywhere
    assert "selfcheck: passed" in said
    assert f"ppo of {real_model.name} on landmarks" in said
    (rate,) = re.findall(r"peak learning rate +│ ([\d.e-]+) \(LoRA\)", said)
    assert float(rate) == suited_rates(PARAMETERS, lora=True).policy


def test_ppo_trains_its_adapters_and_nothing_else(trained, real_model):
    folder, _ = trained
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["model"] == real_model.name
    assert 0 < summary["val/kl"] < 10
    assert math.isfinite(summary["val/score"])
    moved = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert all(weight.any() for name, weight in moved.items() if "lora_B" in name)


def test_the_export_is_a_plain_model_that_answers(trained, real_model):
    folder, _ = trained
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    question = [{"role": "user", "content": "What is the capital of France?"}]
    asked = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**asked, max_new_tokens=20, do_sample=False)[0]
    text = tokenizer.decode(answer[asked.input_ids.shape[1] :], skip_special_tokens=True)
    assert re.search(r"[A-Za-z]{2,} [A-Za-z]{2,}", text)
    assert AutoConfig.from_pretrained(folder / "model").dtype == torch.float32
    # What the adapter was trained on, where the run computes in bfloat16.
    kept = torch.bfloat16 if cpu_has_bfloat16() else torch.float32
    base = AutoModelForCausalLM.from_pretrained(real_model, dtype=torch.float32).eval()
    with torch.no_grad():
        merged, before = model(**asked).logits, base(**asked).logits
        policy = PeftModel.from_pretrained(base.to(kept).float(), folder / "adapter")
        adapted = policy(**asked).logits
    assert (merged - adapted).abs().max() < 1e-3 * (merged - before).abs().max()


def test_it_is_judged_against_what_it_was(trained, run, real_model):
    folder, _ = trained
    judged, _ = run(
        "evaluation",
        "task=evaluate",
        f"policy={folder}",
        f"model.pretrained={real_model}",
        "reward=function",
        "reward.path=rewards_of_this_test:short",
        "evaluation.prompts=6",
        "evaluation.batch_size=6",
    )
    summary = json.loads((judged / "summary.json").read_text(encoding="utf-8"))
    assert 0 <= summary["val/win_rate"] <= 1
    assert summary["val/score"] < 0


def test_a_reward_model_of_a_few_steps_is_trained_on_it(run, real_model):
    folder, said = run(
        "reward_model",
        "algo=reward_model",
        f"model.pretrained={real_model}",
        "adapter=lora",
        "algo.batch_size=4",
    )
    rate = suited_rates(PARAMETERS, lora=True).reward_model
    assert f"peak learning rate {rate:g} (LoRA)" in " ".join(said.split())
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert 0 <= summary["val/accuracy"] <= 1
    assert 0 < summary["val/loss"] < 10
    assert (folder / "report.md").is_file()
