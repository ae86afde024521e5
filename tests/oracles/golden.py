"""Numbers that the oracles gave, kept so that every run of the tests is held against them."""

import json
import re
from pathlib import Path

import torch
from torch import Tensor

PATH = Path(__file__).with_name("golden.json")
# Where an oracle iterates until it is near enough: how near. All others are exact up to rounding.
ITERATED = {("choix_opt_pairwise", "best"): 1e-7, ("choix_ilsr_rankings", "best"): 1e-10}
ROUNDING = 1e-12


def read() -> dict:
    """`versions` of the libraries, `inputs` by comparison, `outputs` by comparison and oracle."""
    return json.loads(PATH.read_text(encoding="utf-8"))


def write(versions: dict, inputs: dict, outputs: dict) -> None:
    content = {"versions": versions, "inputs": inputs, "outputs": outputs}
    text = json.dumps(content, indent=1)
    # The innermost lists on a line each.
    text = re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text)
    PATH.write_text(text + "\n", encoding="utf-8")


def differences(oracle: str, outputs: dict, ours: dict[str, Tensor]) -> dict[str, tuple]:
    """By name of the numbers that an oracle gives: how far ours are, and how far they may be."""
    result = {}
    for name, numbers in outputs.items():
        theirs = torch.as_tensor(numbers, dtype=torch.float64)
        assert ours[name].shape == theirs.shape, name
        distance = float((ours[name] - theirs).abs().max())
        result[name] = (distance, ITERATED.get((oracle, name), ROUNDING))
    return result
