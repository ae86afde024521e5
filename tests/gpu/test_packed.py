"""A base in 4 bits that is made on the device: trained, and exported for anybody."""

import pytest
import torch
from peft import LoraConfig, TaskType
from transformers import AutoModelForCausalLM

from harness.pipeline.model_folder import export
from lightning_modules.models.adapters import add_adapter
from lightning_modules.models.loading import LoadOptions, load_causal_lm

pytestmark = pytest.mark.gpu
LORA = LoraConfig(r=4, target_modules="all-linear")
IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]])
# Between kernels of 4 bits and plain products in float32, of logits below 1.
ROUNDING = 1e-3


def test_a_packed_policy_is_trained_and_exported_on_the_device(lm, encoder, device, tmp_path):
    pytest.importorskip("bitsandbytes")
    lm.save_pretrained(tmp_path / "lm")
    encoder.tokenizer.save_pretrained(tmp_path / "lm")
    packed = load_causal_lm(tmp_path / "lm", how=LoadOptions(packed=True, device=str(device)))
    policy = add_adapter(packed, LORA, TaskType.CAUSAL_LM, seed=0).to(device).eval()
    trained = [p for p in policy.parameters() if p.requires_grad]
    optimizer, ids = torch.optim.SGD(trained, lr=1.0), IDS.to(device)
    for _ in range(2):
        with torch.no_grad():
            sampled = policy(input_ids=ids).logits
        outputs = policy(input_ids=ids).logits
        assert (outputs - sampled).abs().max() < ROUNDING
        outputs.logsumexp(-1).mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
        optimizer.step()
        optimizer.zero_grad()
    export(policy, encoder, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        gap = plain(input_ids=IDS).logits - policy(input_ids=ids).logits.cpu()
    assert gap.abs().max() < ROUNDING
