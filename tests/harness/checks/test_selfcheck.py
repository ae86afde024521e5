"""The start-up check finds each of the bugs that it is there for, and passes what is sound."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from peft import LoraConfig, TaskType
from pytorch_lightning.callbacks import Callback
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig

from datamodules.prompts import PromptDataModule
from datamodules.records import Message, Prompt
from datamodules.tokenization.encoder import Encoder
from datamodules.tokenization.loading import train_tokenizer
from datamodules.tokenization.templates import EMBEDDED_TEMPLATE, PLAIN_TEMPLATE
from harness.checks import audit, selfcheck
from harness.checks.audit import CheckError
from harness.checks.plain_pass import check_causality
from harness.checks.selfcheck import SelfCheck
from harness.errors import RunError
from harness.pipeline.model_folder import export
from harness.reports.plain_console import PlainConsole
from harness.tracking.metrics_csv import MetricsCsv
from lightning_modules.errors import ModelError
from lightning_modules.forward.log_probs import _Head, whole_up_to
from lightning_modules.forward.passes import cache_name
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.adapters import VALUE_ADAPTER, add_adapter, add_value_adapter
from lightning_modules.models.loading import FLOAT32
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.models.scorers import load_scorer, new_scorer
from lightning_modules.policy import PolicyModule
from lightning_modules.rewards.learned import CheckpointReward, LearnedReward
from lightning_modules.rewards.reward import Responses, Reward, RewardContext
from lightning_modules.rollouts.collection import Collector, Vocabulary
from tests.conftest import CONFIGS
from tests.lightning_modules.tiny_runs import Constant, make

# Large enough that its memory stands out of what Python needs anyway.
MODELS = CONFIGS | {
    "wide": lambda **ids: LlamaConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=128,
        **ids,
    )
}
EVERY_TURN = (
    "{% for m in messages %}{{ bos_token }}<|{{ m['role'] }}|>{{ m['content'] }}<|eos|>{% endfor %}"
    "{% if add_generation_prompt %}<|bos|><|assistant|>{% endif %}"
)
PADDING_WRITTEN = EVERY_TURN.replace("<|eos|>", "<|eos|><|pad|>")
LORA = LoraConfig(r=2, target_modules="all-linear")


class Length(Reward):
    """More characters are better."""

    def score(self, responses: Responses) -> torch.Tensor:
        return torch.tensor([float(len(text)) for text in responses.texts])


class Drawn(Reward):
    """Scores by every global generator that a user's function may draw from."""

    def score(self, responses: Responses) -> torch.Tensor:
        draws = random.random() + np.random.rand()
        return draws + torch.rand(len(responses.prompts))


class Unscored(Length):
    """Nothing is known of the first two responses."""

    def score(self, responses: Responses) -> torch.Tensor:
        scores = super().score(responses)
        scores[:2] = float("nan")
        return scores


class Infinite(Length):
    """The second response is worth more than anything."""

    def score(self, responses: Responses) -> torch.Tensor:
        scores = super().score(responses)
        scores[1] = float("inf")
        return scores


class After(Callback):
    """Does something to the module after Lightning has prepared it."""

    def __init__(self, change: Callable[[PolicyModule], None]):
        self.change = change

    def on_train_start(self, trainer, pl_module):
        self.change(pl_module)


def language_model(kind: str, encoder: Encoder, seed: int = 0):
    tokenizer = encoder.tokenizer
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(
            MODELS[kind](
                vocab_size=len(tokenizer),
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    return model.eval()


def actor_critic(kind: str, encoder: Encoder, critic: str | None, lora: bool, folder: Path):
    lm = language_model(kind, encoder)
    lm.save_pretrained(folder)
    if lora:
        lm = add_adapter(lm, LORA, TaskType.CAUSAL_LM, seed=1)
        reference = Reference(lm, shares_policy=True)
    else:
        reference = Reference(frozen(language_model(kind, encoder)), shares_policy=False)
    if critic == "adapter":
        add_value_adapter(lm, LORA, seed=2)
        return ActorCritic(lm, new_value_head(lm), value_adapter=VALUE_ADAPTER), reference
    if critic == "head":
        return ActorCritic(lm, new_value_head(lm)), reference
    if critic == "copy":
        scorer = new_scorer(folder, encoder.tokenizer, seed=0)
        return ActorCritic(lm, critic=ScalarModel(scorer)), reference
    return ActorCritic(lm), reference


class Bench:
    """One policy run at a time, of one or two iterations, on the embedded world."""

    def __init__(self, world, encoder: Encoder, folder: Path):
        self.world = world
        self.encoder = encoder
        self.folder = folder
        self.console = PlainConsole(record=True, width=300, file=StringIO())

    def module(
        self,
        algorithm: str = "ppo",
        *,
        kind: str = "llama",
        lora: bool = False,
        reward: Reward | None = None,
        **options,
    ) -> PolicyModule:
        sizes = {"prompts_per_iteration": 8, "micro_batch_size": 3, "iterations": 1, "beta": 0.1}
        optimizer = {"optimizer": partial(torch.optim.Adam, lr=1e-3)}
        module = make(algorithm, **sizes | optimizer | options)
        model, reference = actor_critic(
            kind, self.encoder, module.options.critic, lora, self.folder / "lm"
        )
        encoder = self.encoder
        return module.bind(
            model=model,
            reference=reference,
            reward=reward or Length(),
            vocabulary=Vocabulary(
                encoder.stop_ids, encoder.pad_id, encoder.max_response_tokens, encoder.decode
            ),
            gold=None,
        )

    def run(
        self,
        module: PolicyModule,
        *,
        before: Callable[[PolicyModule], None] | None = None,
        check: bool = True,
        resumed: bool = False,
        data: type[PromptDataModule] = PromptDataModule,
    ) -> list[dict[str, float]]:
        """Rows of metrics; `before` is done to the module just before the check."""
        logger = MetricsCsv(self.folder / "metrics.csv")
        callbacks = [After(before)] if before else []
        if check:
            callbacks.append(SelfCheck(self.encoder, self.console, resumed))
        trainer = pl.Trainer(
            max_epochs=module.options.iterations,
            limit_train_batches=1,
            limit_val_batches=0,
            accelerator="cpu",
            logger=logger,
            callbacks=callbacks,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            use_distributed_sampler=False,
            log_every_n_steps=1,
            inference_mode=False,
        )
        options = module.options
        prompts = data(self.world, self.encoder, options.prompts_per_iteration, 4, 4, 0)
        trainer.fit(module, datamodule=prompts)
        clock = ("time/", "throughput/")
        return [{k: v for k, v in row.items() if not k.startswith(clock)} for row in logger.rows]

    def said(self) -> str:
        return self.console.export_text(clear=False)


@pytest.fixture
def bench(world, encoder, tmp_path) -> Bench:
    return Bench(world, encoder, tmp_path)


@pytest.fixture
def reward_folder(bench) -> Path:
    """A reward model in a folder."""
    language_model("llama", bench.encoder).save_pretrained(bench.folder / "base")
    scorer = new_scorer(bench.folder / "base", bench.encoder.tokenizer, seed=0)
    scorer.save_pretrained(bench.folder / "rm")
    return bench.folder / "rm"


def learned(folder: Path, encoder: Encoder) -> LearnedReward:
    reward = LearnedReward()
    reward.bind(RewardContext(lambda: folder, None, lambda path: encoder, FLOAT32))
    return reward


@pytest.mark.parametrize(
    ("algorithm", "critic", "lora"),
    [
        ("rloo", None, False),
        ("ppo", "head", False),
        ("a2c", "copy", True),
        ("ppo", "adapter", True),
    ],
)
def test_sound_runs_pass(bench, architecture, algorithm, critic, lora):
    options = {"critic": critic} if critic else {}
    bench.run(bench.module(algorithm, kind=architecture, lora=lora, **options))
    assert "selfcheck: passed" in bench.said()
    assert "KL to the reference 0 within" in bench.said()
    assert "warning" not in bench.said()


def test_chunks_of_logits_are_compared_where_a_run_has_them(bench, monkeypatch):
    with whole_up_to(1000):
        bench.run(bench.module("ppo"))
        assert "log-probabilities from chunks of logits are those of whole" in bench.said()
        logits = _Head.logits
        monkeypatch.setattr(_Head, "logits", lambda head, states: logits(head, states) * 1.1)
        with pytest.raises(CheckError, match="from chunks of logits differ"):
            bench.run(bench.module("ppo"))


def test_nothing_that_comes_later_changes(bench):
    rows = []
    for check in (True, False):
        module = bench.module(iterations=2, reward=Drawn())
        pl.seed_everything(0, verbose=False)
        rows.append(bench.run(module, check=check))
    assert rows[0] == rows[1]
    assert len(rows[0]) == 2


def test_one_sequence_is_shown_with_what_is_padding(bench):
    bench.run(bench.module())
    padding, prompt, response, after = bench.said().splitlines()[-4:]
    assert padding.split()[0] == after.split()[0] == "padding"
    assert "'<|bos|><|user|>" in prompt
    assert prompt.endswith("<|assistant|>'")
    assert response.split()[:2] == [">", "response"]


def put_in_training_mode(part: str) -> Callable[[PolicyModule], None]:
    def change(module: PolicyModule) -> None:
        with module.collector.reference.active() as reference:
            parts = {"policy": module.model, "reference": reference}
            parts["reward"] = module.collector.reward.scorer.model if part == "reward" else None
            parts[part].train()

    return change


@pytest.mark.parametrize("part", ["policy", "reference", "reward"])
def test_dropout_that_is_on_is_found(bench, reward_folder, part):
    module = bench.module(reward=learned(reward_folder, bench.encoder))
    with pytest.raises(RunError, match=rf"in training mode, the first is {part}\..*eval\(\)"):
        bench.run(module, before=put_in_training_mode(part))


def test_dropout_that_no_mode_switches_off_is_found(bench):
    def drop(module: PolicyModule) -> None:
        layer = module.model.lm.model.layers[0].mlp
        layer.register_forward_hook(lambda _, args, output: nn.functional.dropout(output, 0.1))

    with pytest.raises(RunError, match=r"two forward passes .* differ by"):
        bench.run(bench.module(), before=drop)


def another_reference(module: PolicyModule, encoder: Encoder) -> None:
    other = frozen(language_model("llama", encoder, seed=5))
    module.collector.reference = Reference(other, shares_policy=False)


def test_a_reference_that_is_another_model_is_found(bench):
    change = partial(another_reference, encoder=bench.encoder)
    with pytest.raises(RunError, match=r"KL to the reference is \S+ nats a token .* revision"):
        bench.run(bench.module(), before=change)


@pytest.mark.parametrize(("beta", "resumed"), [(0.0, False), (0.1, True)])
def test_the_reference_is_compared_where_it_must_be_equal_alone(bench, beta, resumed):
    change = partial(another_reference, encoder=bench.encoder)
    bench.run(bench.module(beta=beta), before=change, resumed=resumed)
    assert "KL to the reference" not in bench.said()


def test_an_adapter_that_begins_with_an_effect_is_found(bench):
    def disturb(module: PolicyModule) -> None:
        for name, parameter in module.model.lm.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1)

    with pytest.raises(RunError, match="KL to the reference"):
        bench.run(bench.module(lora=True), before=disturb)


def test_a_sampler_of_another_temperature_is_found(bench):
    def heat(module: PolicyModule) -> None:
        module.collector.temperature = 0.95

    with pytest.raises(RunError, match=r"log-ratio of update and rollout is 0\.\d+ .*temperature"):
        bench.run(bench.module(), before=heat)


def test_a_reward_head_that_was_made_anew_is_found(bench, reward_folder):
    reward = learned(reward_folder, bench.encoder)
    bench.run(bench.module(reward=reward))
    assert "passed" in bench.said()
    nn.init.normal_(reward.scorer.model.model.score.weight, std=0.1)
    with pytest.raises(RunError, match=r"head differs from the one in .*rm by up to"):
        bench.run(bench.module(reward=reward))


def test_a_reward_model_that_tells_no_responses_apart_is_found(bench, reward_folder):
    scorer = load_scorer(reward_folder)
    nn.init.zeros_(scorer.score.weight)
    scorer.save_pretrained(reward_folder)
    with pytest.raises(RunError, match="8 responses, not all the same, have the same score 0"):
        bench.run(bench.module(reward=learned(reward_folder, bench.encoder)))


def test_equal_scores_of_a_function_are_a_warning(bench):
    bench.run(bench.module(reward=Constant()))
    assert "warning: 8 responses, not all the same, have the same score 0" in bench.said()


def test_responses_without_a_score_are_counted(bench):
    bench.run(bench.module(reward=Unscored()))
    assert "warning: 25% of the responses have no score" in bench.said()


def test_an_infinite_score_is_found(bench):
    with pytest.raises(RunError, match="1 of 8 scores are infinite"):
        bench.run(bench.module(reward=Infinite()))


def test_a_checkpoint_without_a_trained_head_is_refused_by_the_loader(bench, reward_folder):
    encoder = bench.encoder
    lora = add_adapter(load_scorer(reward_folder), LORA, TaskType.SEQ_CLS, seed=0)
    export(lora, encoder, bench.folder / "export")
    assert load_scorer(bench.folder / "export" / "model").score.weight.shape[0] == 1
    weights = load_file(reward_folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, reward_folder / "model.safetensors", {"format": "pt"})
    for folder in (reward_folder, bench.folder / "export" / "adapter"):
        reward = CheckpointReward(path=str(folder))
        with pytest.raises(ModelError):
            reward.bind(RewardContext(lambda: None, None, lambda path: encoder, FLOAT32))


class Wrong(Collector):
    """A collector whose sampler has a bug: `spoil` changes a response's ids and mask, (T,)."""

    spoil: Callable

    def respond(self, lm, batch, noise, samples) -> Responses:
        responses = super().respond(lm, batch, noise, samples)
        width = responses.prompt_mask.shape[1]
        ids, mask = responses.sequences.clone(), responses.response_mask.clone()
        self.spoil(ids[1, width:], mask[1])
        return replace(responses, sequences=ids, response_mask=mask)


def beyond_the_stop(encoder: Encoder, ids, mask) -> None:
    ids[2] = encoder.stop_id


def with_a_gap(encoder: Encoder, ids, mask) -> None:
    mask[2] = False


def with_an_end_that_is_not_known(encoder: Encoder, ids, mask) -> None:
    ids[3], mask[4:] = encoder.stop_id, False


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (beyond_the_stop, "response 1 stops at token 3, and its mask goes on to token 16"),
        (with_a_gap, "response 1 has gaps: its mask is 1101111"),
        (with_an_end_that_is_not_known, "response 1 counts as cut off, and it ends with a stop"),
    ],
)
def test_a_mask_that_does_not_end_with_the_stop_is_found(bench, spoil, message):
    def change(module: PolicyModule) -> None:
        module.collector.__class__ = Wrong
        module.collector.spoil = partial(spoil, bench.encoder)

    with pytest.raises(RunError, match=message):
        bench.run(bench.module(), before=change)


class PaddedOnTheRight(PromptDataModule):
    def collate(self, rows):
        batch = super().collate(rows)
        ids, mask = self.encoder.pad([row.ids for row in rows], "right")
        return batch | {"prompt_ids": ids, "prompt_mask": mask}


class PaddingUnmasked(PromptDataModule):
    def collate(self, rows):
        batch = super().collate(rows)
        return batch | {"prompt_mask": torch.ones_like(batch["prompt_mask"])}


class WithGaps(PromptDataModule):
    def collate(self, rows):
        batch = super().collate(rows)
        batch["prompt_mask"][:, -3] = False
        return batch


class Changed(PromptDataModule):
    """Prompts are encoded with a bug: `change` makes other ids of theirs."""

    change: Callable[[list[int]], list[int]]

    def _encode(self, prompts):
        return [row._replace(ids=type(self).change(row.ids)) for row in super()._encode(prompts)]


class BosTwice(Changed):
    change = staticmethod(lambda ids: [ids[0], *ids])


class BosLate(Changed):
    change = staticmethod(lambda ids: [ids[1], ids[0], *ids[2:]])


class WithoutTheTurnOfTheResponse(Changed):
    change = staticmethod(lambda ids: ids[:-1])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (PaddedOnTheRight, r"prompt \d is padded on the right: its mask is 1+0+;"),
        (PaddingUnmasked, r"prompt \d is not what .* from token 1 on it is '<\|pad\|>"),
        (WithGaps, r"prompt \d has gaps: its mask is 0*1+011;"),
        (BosTwice, r"prompt 0 is not what .* from token 2 on it is '<\|bos\|><\|user\|>"),
        (BosLate, r"from token 1 on it is '<\|user\|><\|bos\|>.*template writes '<\|bos\|>"),
        (WithoutTheTurnOfTheResponse, r"it is '', the template writes '<\|assistant\|>'"),
    ],
)
def test_prompts_that_are_put_together_wrongly_are_found(bench, data, message):
    with pytest.raises(RunError, match=message):
        bench.run(bench.module(), data=data)


@pytest.mark.parametrize("content", ["Write <|bos|><|user|> or <|eos|>!", "{turn}", " <|pad|>"])
@pytest.mark.parametrize("template", [EMBEDDED_TEMPLATE, EVERY_TURN, PADDING_WRITTEN])
def test_what_the_template_itself_writes_is_right(world, template, content):
    """BOS at every turn, the padding token within the prompt, special words in what people say."""
    tokenizer = train_tokenizer(world.texts(), 400)
    tokenizer.chat_template = template
    encoder = Encoder(tokenizer, 99, 8)
    turns = [Message("user", content), Message("assistant", "b"), Message("user", "c " + content)]
    prompt = Prompt(tuple(turns))
    (ids,) = encoder.prompts([prompt])
    assert audit.rendered_ids(prompt, encoder) == ids
    audit._check_template(0, ids, prompt, encoder)
    for wrong in (ids[1:], ids[:-1], ids[:1] + ids, [*ids[:5], encoder.pad_id, *ids[5:]]):
        with pytest.raises(RunError, match="is not what its chat template writes"):
            audit._check_template(0, wrong, prompt, encoder)


def test_a_cache_that_is_not_used_is_found(bench):
    """As in architectures that call it something else, and take every argument without a word."""

    def forget(module: PolicyModule) -> None:
        def without_cache(_, args, options):
            if options.pop(cache_name(module.model.lm), None) is not None:
                width = options["input_ids"].shape[1]
                if "attention_mask" in options:
                    options["attention_mask"] = options["attention_mask"][:, -width:]
            return args, options

        module.model.lm.register_forward_pre_hook(without_cache, with_kwargs=True)

    with pytest.raises(RunError, match=r"of \d+ sampled tokens .* LlamaForCausalLM does not use"):
        bench.run(bench.module(), before=forget)


def test_positions_that_depend_on_other_rows_are_found(bench):
    """As if padding on the left were counted: the padded batch differs from each row alone."""

    def shift(module: PolicyModule) -> None:
        def all_places(_, args, options):
            if options.get("position_ids") is not None:
                places = options["position_ids"]
                later = places.shape[1] > 1
                options["position_ids"] = places + (places == 0).sum(1, keepdim=True) * later
            return args, options

        for lm in (module.model.lm, module.collector.reference._lm):
            lm.register_forward_pre_hook(all_places, with_kwargs=True)

    with pytest.raises(RunError, match=r"sampled tokens|padded batch differ"):
        bench.run(bench.module(), before=shift)


def test_a_model_that_reads_in_both_directions_is_found(bench):
    def see_all(_, args, output):
        output.last_hidden_state += 9 * output.last_hidden_state.mean(1, keepdim=True)
        return output

    module = bench.module()
    module.model.lm.model.register_forward_hook(see_all)
    batch = PromptDataModule(bench.world, bench.encoder, 8, 4, 4, 0)
    rows = [batch.rows["train"][i] for i in range(2)]
    sample = selfcheck.take_sample(module, batch.collate(rows))
    with pytest.raises(RunError, match=r"another last token changes .* reads in both directions"):
        check_causality(module.model.lm, sample, selfcheck.FLOAT32_TOLERANCE)


def test_prompts_that_were_cut_pass(world, encoder, tmp_path):
    bench = Bench(world, Encoder(encoder.tokenizer, 7, 16), tmp_path)
    bench.run(bench.module())
    assert bench.encoder.counts["prompts truncated"] > 0
    assert "passed" in bench.said()


@pytest.mark.parametrize("template", [None, PLAIN_TEMPLATE])
def test_a_tokenizer_whose_padding_is_its_stop_token_passes(world, tmp_path, template):
    tokenizer = train_tokenizer(world.texts(), 400)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = template or tokenizer.chat_template
    bench = Bench(world, Encoder(tokenizer, 64, 16), tmp_path)
    bench.run(bench.module())
    assert "passed" in bench.said()
    assert "padding and stop token are both '<|eos|>': allowed" in bench.said()


def test_too_little_memory_is_found_before_the_first_iteration(bench, monkeypatch):
    monkeypatch.setattr(selfcheck, "free_bytes", lambda device, processes: 2**16)
    with pytest.raises(RunError, match=r"needs about .* MiB .* 64.0 KiB is free.*micro_batch_size"):
        bench.run(bench.module())


def test_memory_that_is_not_known_stops_nothing(bench, monkeypatch):
    monkeypatch.setattr(selfcheck, "free_bytes", lambda device, processes: None)
    bench.run(bench.module())
    assert "free: unknown" in bench.said()


def test_a_rank_stops_where_another_one_found_something(bench):
    def another_fails(module: PolicyModule) -> None:
        module.sum_over_ranks = lambda x: x + 1

    with pytest.raises(RunError, match=r"1 other ranks failed.*selfcheck=false"):
        bench.run(bench.module(), before=another_fails)
