"""A reward model trained on preferences whose every probability is known."""

from functools import partial

import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM, LlamaConfig

from datamodules.preferences import PreferenceDataModule
from datamodules.records import Preference, Prompt
from datamodules.sources.source import Source
from datamodules.tokenization.encoder import Encoder
from datamodules.tokenization.loading import train_tokenizer
from harness.pipeline.fitting import fit_supervised
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.models.scorers import new_scorer
from tests.lightning_modules.supervised_parts import ROOM, make_reward_model

ASKERS = ("Ann", "Ben", "Cem", "Dia", "Eve", "Fay")
TOPICS = ("tea", "rain", "chess", "Rome")
RESPONSES = ("yes", "no", "maybe so", "never again", "ask me later", "why not")
TRAIN, VAL = 16_000, 16_000
CPU = OmegaConf.create({"name": "cpu", "accelerator": "cpu", "devices": 1, "precision": "32-true"})


class Opinions(Source):
    """Pairs of responses drawn evenly, and a choice drawn from Bradley-Terry on a table of scores.

    What a response is worth depends on the topic and not on who asks, so held-out prompts, which
    bring askers and topics together anew, can be known.
    """

    def __init__(self):
        super().__init__(name="opinions", max_prompt_tokens=16, max_response_tokens=8)
        self.generator = torch.Generator().manual_seed(0)
        self.worth = 1.5 * torch.randn(len(TOPICS), len(RESPONSES), generator=self.generator)
        self.pairs = {"train": self.draw(TRAIN, 0), "val": self.draw(VAL, 1)}

    def draw(self, count, held_out):
        """Every third meeting of an asker and a topic is held out."""
        meetings = [
            (asker, topic)
            for asker in range(len(ASKERS))
            for topic in range(len(TOPICS))
            if ((asker + topic) % 3 == 0) == bool(held_out)
        ]
        which = torch.randint(len(meetings), (count,), generator=self.generator).tolist()
        luck = torch.rand(count, generator=self.generator).tolist()
        pairs = []
        for meeting, lucky in zip(which, luck, strict=True):
            asker, topic = meetings[meeting]
            a, b = torch.randperm(len(RESPONSES), generator=self.generator)[:2].tolist()
            p = float(torch.sigmoid(self.worth[topic, a] - self.worth[topic, b]))
            if lucky >= p:
                a, b, p = b, a, 1 - p
            prompt = Prompt.from_text(f"{ASKERS[asker]}: {TOPICS[topic]}?")
            pairs.append(Preference(prompt, RESPONSES[a], RESPONSES[b], p))
        return pairs

    def comparisons(self, split):
        return self.pairs[split]

    def identity(self):
        return {}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What training reported, the true probability of each choice, and the learned margin."""
    source = Opinions()
    encoder = Encoder(train_tokenizer(source.texts(), 320), 16, 8)
    folder = tmp_path_factory.mktemp("lm")
    config = LlamaConfig(
        vocab_size=len(encoder.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    model = ScalarModel(new_scorer(folder, encoder.tokenizer, seed=0))
    module = make_reward_model(
        epochs=2,
        batch_size=64,
        max_grad_norm=1.0,
        optimizer=partial(torch.optim.Adam, lr=3e-3),
        warmup=0.05,
    ).bind(model)
    data = PreferenceDataModule(source, encoder, module.options.batch_size, ROOM, seed=0)
    metrics = fit_supervised(module, data, CPU, loggers=[], checkpoints=folder / "checkpoints")
    true, margins = [], []
    with torch.no_grad():
        for (part,) in data.val_dataloader():
            scores = module.scores(part)[:, 0]
            true.append(part["probability"])
            margins.append(scores[part["chosen"]] - scores[part["rejected"]])
    return metrics, torch.cat(true).double(), torch.cat(margins).double()


def test_held_out_accuracy_is_that_of_bayes(trained, measured):
    metrics, true, margins = trained
    variance = (true * (1 - true)).mean() / len(true)
    off = abs(metrics["val/accuracy"] - metrics["val/bayes_accuracy"]) / float(variance.sqrt())
    measured("E11 accuracy on held-out pairs, standard errors from the Bayes accuracy", off, 4)
    # Without the luck of the draw: how often the better response would be chosen, and is predicted.
    best = torch.maximum(true, 1 - true)
    reached = torch.where(margins > 0, true, 1 - true)
    measured(
        "E11 expected accuracy lost to a wrong order of responses", (best - reached).mean(), 0.005
    )


def test_predicted_probabilities_are_calibrated_and_true(trained, measured):
    metrics, true, margins = trained
    measured("E11 expected calibration error on held-out pairs", metrics["val/ece"], 0.03)
    away = (torch.sigmoid(margins) - true).abs().mean()
    measured("E11 mean distance of predicted from true probabilities", away, 0.04)
