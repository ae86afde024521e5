"""The real Trainer on the world of 121 responses: rollouts are sampled, the verdict is exact."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytorch_lightning as pl
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from datamodules.prompts import PromptDataModule
from datamodules.records import Prompt
from datamodules.tokenization.encoder import Encoder
from lightning_modules.a2c import A2C
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.policy import PolicyModule
from lightning_modules.ppo import PPO
from lightning_modules.reinforce import Reinforce
from lightning_modules.rollouts.collection import Vocabulary
from tests.exact.world import (
    HORIZON,
    OPTIONS,
    PROMPT,
    RESPONSES,
    STOP,
    VOCABULARY,
    TableReward,
    log_probabilities,
)

WORDS = ("a", "b", "c", "<stop>")
# 256 responses an iteration; steps that shrink to nothing, so that training ends at rest.
TRAINED = OPTIONS | {
    "prompts_per_iteration": 256,
    "optimizer": partial(torch.optim.Adam, lr=5e-3),
    "lr_decay": "linear",
    "max_grad_norm": 1.0,
}


def learner(kind: str) -> nn.Module:
    """A random `gpt2` or `llama` in float32, wide enough to learn what `pair_scores` asks for."""
    ids = {"vocab_size": VOCABULARY, "bos_token_id": STOP, "eos_token_id": STOP}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if kind == "gpt2":
            config = GPT2Config(**ids, n_positions=16, n_embd=32, n_layer=1, n_head=4)
            model = GPT2LMHeadModel(config)
        else:
            config = LlamaConfig(
                **ids,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=1,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=16,
            )
            model = LlamaForCausalLM(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.12)
    return model.eval()


def reinforce(**options: Any) -> Reinforce:
    """On-policy: one update a rollout."""
    settings = {"returns": "to_go", "baseline": "mean", "importance": "none"}
    return Reinforce(**_without_critic(settings | options))


def rloo(**options: Any) -> Reinforce:
    """Several updates on a rollout, which sequence weights keep exact."""
    settings = {
        "returns": "sequence",
        "baseline": "leave_one_out",
        "importance": "sequence",
        "prompts_per_iteration": 32,
        "samples_per_prompt": 8,
        "epochs": 2,
        "minibatches": 2,
    }
    return Reinforce(**_without_critic(settings | options))


def _without_critic(options: dict[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in (TRAINED | options).items() if name != "critic"}


def a2c(**options: Any) -> A2C:
    settings = {
        "lam": 1.0,
        "value_updates": 2,
        "value_coef": 0.5,
        "whiten_advantages": False,
        "critic": "copy",
    }
    return A2C(**TRAINED | settings | options)


def ppo(**options: Any) -> PPO:
    settings = {
        "lam": 0.95,
        "clip_range": 0.2,
        "value_coef": 0.5,
        "whiten_advantages": True,
        "critic": "head",
        "epochs": 2,
        "minibatches": 4,
    }
    return PPO(**TRAINED | settings | options)


def pair_scores(scale: float, seed: int) -> Tensor:
    """A score for each response: the sum of what its pairs of neighbouring tokens are worth.

    That can be learned from samples; 121 unrelated scores would have to be learned by heart.
    """
    generator = torch.Generator().manual_seed(seed)
    worth = torch.randint(-32, 33, (VOCABULARY + 1, VOCABULARY), generator=generator) * scale / 32
    begin = VOCABULARY
    pairs = [zip((begin, *response[:-1]), response, strict=True) for response in RESPONSES]
    return torch.stack([sum(worth[pair] for pair in row) for row in pairs]).double()


def expected(logp: Tensor, x: Tensor) -> float:
    """The mean of x (121,) over responses."""
    return float((logp.exp() * x).sum())


def divergence(logp: Tensor, logq: Tensor) -> float:
    """KL(p || q) of distributions over the responses, exactly."""
    return expected(logp, logp - logq)


@torch.no_grad()
def distribution(lm: nn.Module) -> Tensor:
    """log pi of the responses as constants in float64."""
    logp = log_probabilities(lm).double()
    return logp - logp.logsumexp(0)


def encoder() -> Encoder:
    """Three words and a stop token, which is the padding token as well, as is common."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "a"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token=WORDS[STOP],
        pad_token=WORDS[STOP],
        chat_template="{% for m in messages %}{{ m['content'] }} {% endfor %}",
    )
    return Encoder(tokenizer, len(PROMPT), HORIZON)


def critic(lm: nn.Module) -> ScalarModel:
    """A network of its own on a copy of the backbone of `lm`, which values every state 0."""
    config = deepcopy(lm.config)
    config.num_labels = 1
    model = AutoModelForSequenceClassification.from_config(config)
    model.load_state_dict(lm.state_dict(), strict=False)
    nn.init.zeros_(model.score.weight)
    return ScalarModel(model.to(lm.dtype).eval())


class Watch(pl.Callback):
    """What `look` says of the policy before training and after every `every` iterations."""

    def __init__(self, look: Callable[[nn.Module], Any], every: int):
        self.look = look
        self.every = every
        self.seen: list[tuple[int, Any]] = []

    def on_train_start(self, trainer: pl.Trainer, module: PolicyModule) -> None:
        self.seen.append((0, self.look(module.model.lm)))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: PolicyModule) -> None:
        done = trainer.current_epoch + 1
        if done % self.every == 0:
            self.seen.append((done, self.look(module.model.lm)))


def fit(
    module: PolicyModule, ref: nn.Module, scores: Tensor, callbacks: Iterable[pl.Callback] = ()
) -> nn.Module:
    """A copy of `ref` after all iterations of `module`, with these scores as the reward."""
    encode, options = encoder(), module.options
    lm = deepcopy(ref)
    module.bind(
        model=ActorCritic(
            lm,
            value_head=new_value_head(lm).to(lm.dtype) if options.critic == "head" else None,
            critic=critic(ref) if options.critic == "copy" else None,
        ),
        reference=Reference(frozen(deepcopy(ref)), shares_policy=False),
        reward=TableReward(scores),
        vocabulary=Vocabulary(encode.stop_ids, encode.pad_id, HORIZON, encode.decode),
        gold=None,
    )
    prompt = Prompt.from_text(" ".join(WORDS[token] for token in PROMPT))
    source = SimpleNamespace(prompts=lambda split: [prompt])
    data = PromptDataModule(source, encode, options.prompts_per_iteration, 1, 1, options.seed)
    trainer = pl.Trainer(
        max_epochs=options.all_iterations,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        inference_mode=False,
    )
    trainer.fit(module, datamodule=data)
    return lm
