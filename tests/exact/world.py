"""A world small enough to enumerate: four tokens, one of which stops, at most four a response.

There are 121 responses, so expectations are sums, and the project's code can be held against them
without sampling noise. What is exact here is computed apart from the project: prefix by prefix,
from the plain outputs of a model.
"""

from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
)
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.phi3.modeling_phi3 import Phi3RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.reference import Reference
from lightning_modules.objectives.masked import aggregate
from lightning_modules.policy import PolicyModule
from lightning_modules.rewards.reward import Responses, Reward
from lightning_modules.rollouts.collection import Collector, Vocabulary
from lightning_modules.rollouts.rollout import Rollout

VOCABULARY, STOP, HORIZON = 4, 3, 4
PROMPT = (0, 1)
DTYPE = torch.float64


def enumerate_responses() -> list[tuple[int, ...]]:
    """All 121 of them: 1 to 4 tokens, ended by STOP or by the limit."""
    open_ones, responses = [()], []
    for _ in range(HORIZON):
        longer = [(*prefix, token) for prefix in open_ones for token in range(VOCABULARY)]
        responses += [response for response in longer if response[-1] == STOP]
        open_ones = [prefix for prefix in longer if prefix[-1] != STOP]
    return responses + open_ones


RESPONSES = enumerate_responses()


class Recurrent(nn.Module):
    """49 parameters with the interface of a causal LM, as far as training asks for it."""

    def __init__(self, size: int = 3):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(VOCABULARY, size))
        self.recurrence = nn.Parameter(torch.randn(size, size))
        self.input = nn.Parameter(torch.randn(size, size))
        self.bias = nn.Parameter(torch.randn(size))
        self.output = nn.Linear(size, VOCABULARY)
        self.config = PretrainedConfig(hidden_size=size)

    def get_output_embeddings(self) -> nn.Module:
        return self.output

    def base_model(self, input_ids, attention_mask, **_):
        state, states = torch.zeros(len(input_ids), len(self.bias), dtype=self.bias.dtype), []
        for t in range(input_ids.shape[1]):
            moved = torch.tanh(
                state @ self.recurrence + self.embedding[input_ids[:, t]] @ self.input + self.bias
            )
            state = torch.where(attention_mask[:, t, None].bool(), moved, state)
            states.append(state)
        return SimpleNamespace(last_hidden_state=torch.stack(states, dim=1))

    def forward(self, input_ids, attention_mask, logits_to_keep, **_):
        hidden = self.base_model(input_ids, attention_mask).last_hidden_state
        return SimpleNamespace(
            logits=self.output(hidden[:, logits_to_keep]), hidden_states=(hidden,)
        )


def tiny_lm(kind: str, seed: int = 0) -> nn.Module:
    """A random `recurrent`, `gpt2` or `llama` model in float64, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "recurrent":
            return Recurrent().to(DTYPE).eval()
        if kind == "gpt2":
            config = GPT2Config(
                vocab_size=VOCABULARY,
                bos_token_id=STOP,
                eos_token_id=STOP,
                n_positions=16,
                n_embd=8,
                n_layer=1,
                n_head=2,
            )
            model = GPT2LMHeadModel(config)
        else:
            config = LlamaConfig(
                vocab_size=VOCABULARY,
                bos_token_id=STOP,
                eos_token_id=STOP,
                hidden_size=8,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=16,
                tie_word_embeddings=True,
            )
            model = LlamaForCausalLM(config)
            norms_in_float64(model)
        for parameter in model.parameters():
            # Sharp enough that the distribution over responses is far from uniform.
            nn.init.normal_(parameter, std=0.6)
    return model.to(DTYPE).eval()


def norms_in_float64(model: nn.Module) -> None:
    """Transformers computes RMSNorm, of Llama and those like it, in float32 whatever the weights
    are; torch does not.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, LlamaRMSNorm | MistralRMSNorm | Phi3RMSNorm | Qwen2RMSNorm):
            norm = nn.RMSNorm(module.weight.shape[0], eps=module.variance_epsilon)
            norm.weight = module.weight
            model.set_submodule(name, norm)


def log_probabilities(lm: nn.Module, temperature: float = 1.0) -> Tensor:
    """log pi(y | PROMPT) of the 121 responses, prefix by prefix, with gradients."""
    of_prefix: dict[tuple[int, ...], Tensor] = {}

    def next_token(prefix: tuple[int, ...]) -> Tensor:
        if prefix not in of_prefix:
            ids = torch.tensor([PROMPT + prefix])
            logits = lm(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                logits_to_keep=torch.tensor([ids.shape[1] - 1]),
            ).logits[0, -1]
            of_prefix[prefix] = torch.log_softmax(logits / temperature, dim=-1)
        return of_prefix[prefix]

    return torch.stack(
        [sum(next_token(y[:t])[token] for t, token in enumerate(y)) for y in RESPONSES]
    )


def score_table(seed: int = 0) -> Tensor:
    """A score for each response, in steps of 1/64 so that float32 holds it exactly."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-128, 129, (len(RESPONSES),), generator=generator).to(DTYPE) / 64


def objective(lm: nn.Module, ref: nn.Module, scores: Tensor, beta: float) -> Tensor:
    """J = E[score] - beta KL(pi || ref), exactly, with gradients."""
    logp, logref = log_probabilities(lm), log_probabilities(ref).detach()
    return (logp.exp() * (scores - beta * (logp - logref))).sum()


def optimum(ref: nn.Module, scores: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """log pi* of the responses, pi* = ref exp(score / beta) / Z, and beta log Z = J(pi*)."""
    weights = log_probabilities(ref).detach() + scores / beta
    log_z = weights.logsumexp(0)
    return weights - log_z, beta * log_z


def kl_to_optimum(lm: nn.Module, ref: nn.Module, scores: Tensor, beta: float) -> float:
    """KL(pi || pi*), exactly."""
    logp = log_probabilities(lm).detach()
    return float((logp.exp() * (logp - optimum(ref, scores, beta)[0])).sum())


class TableReward(Reward):
    """The score of a response is looked up."""

    def __init__(self, scores: Tensor):
        self.table = dict(zip(RESPONSES, scores.tolist(), strict=True))

    def score(self, responses: Responses) -> Tensor:
        start = responses.prompt_mask.shape[1]
        rows = zip(responses.sequences[:, start:], responses.response_mask, strict=True)
        return torch.tensor([self.table[tuple(ids[mask].tolist())] for ids, mask in rows])


class Given(Collector):
    """A collector whose responses are given instead of sampled; all else is the project's."""

    def respond(self, lm, batch, noise, samples) -> Responses:
        ys = [RESPONSES[i] for i in batch["responses"]]
        width = max(map(len, ys))
        left = batch.get("left_padding", 0)
        prompt = [0] * left + list(PROMPT)
        sequences = torch.tensor([prompt + list(y) + [0] * (width - len(y)) for y in ys])
        prompt_mask = torch.tensor([[False] * left + [True] * len(PROMPT)] * len(ys))
        response_mask = torch.tensor([[t < len(y) for t in range(width)] for y in ys])
        stopped = torch.tensor([y[-1] == STOP for y in ys])
        return Responses([None] * len(ys), sequences, prompt_mask, response_mask, stopped, str)


OPTIONS = {
    "name": "exact",
    "iterations": 1,
    "prompts_per_iteration": 1,
    "samples_per_prompt": 1,
    "epochs": 1,
    "minibatches": 1,
    "micro_batch_size": 1000,
    "temperature": 1.0,
    "beta": 0.3,
    "gamma": 1.0,
    "critic": None,
    "normalise": "sequences",
    "max_grad_norm": None,
    "optimizer": partial(torch.optim.Adam, lr=1e-2),
    "value_lr": None,
    "lr_decay": "none",
    "evaluate_every": 1000,
    "val_prompts": 1,
    "seed": 0,
}


def bound(module: PolicyModule, model: ActorCritic, ref: nn.Module, scores: Tensor) -> PolicyModule:
    """A module on one rank, outside a Trainer, with its models."""
    module.bind(
        model=model,
        reference=Reference(ref, shares_policy=False),
        reward=TableReward(scores),
        vocabulary=Vocabulary(STOP, 0, HORIZON, str),
        gold=None,
    )
    module.collector.__class__ = Given
    module.sum_over_ranks = lambda x: x
    return module


def rollout_of(module: PolicyModule, responses: list[int], **batch) -> Rollout:
    """The rollout of these responses (places in RESPONSES), collected and weighed by the project.

    `collect` of the module needs a Trainer for its noise only, of which nothing is used here.
    """
    module._trainer = SimpleNamespace(current_epoch=0, global_rank=0, world_size=1)
    return module.collect({"responses": responses, **batch})[0]


def gradient(module: PolicyModule, rollout: Rollout) -> Tensor:
    """Minus the gradient of the module's loss on a rollout, as one vector over the policy."""
    new = module.model(
        rollout.sequences,
        rollout.prompt_mask,
        rollout.response_mask,
        module.options.temperature,
    )
    token_losses, _ = module.token_loss(rollout, new)
    loss = aggregate(token_losses, rollout.response_mask, len(rollout))
    parameters = list(module.model.lm.parameters())
    return -flat(torch.autograd.grad(loss, parameters, allow_unused=True), parameters)


def flat(gradients, parameters) -> Tensor:
    """Gradients as one vector, zeros where there is none."""
    return torch.cat(
        [
            (g if g is not None else torch.zeros_like(p)).flatten()
            for g, p in zip(gradients, parameters, strict=True)
        ]
    )


def exact_gradient(lm: nn.Module, ref: nn.Module, scores: Tensor, beta: float) -> Tensor:
    """Of J, by autograd through the enumeration."""
    parameters = list(lm.parameters())
    return flat(torch.autograd.grad(objective(lm, ref, scores, beta), parameters), parameters)


STATES = list(dict.fromkeys(response[:t] for response in RESPONSES for t in range(len(response))))
"""The 40 beginnings of responses at which there is still something to choose."""

# (121, HORIZON): the place in STATES of s_t, and len(STATES) once the response is over.
STATE_OF = torch.tensor(
    [
        [STATES.index(y[:t]) if t < len(y) else len(STATES) for t in range(HORIZON)]
        for y in RESPONSES
    ]
)


def sum_by_state(x: Tensor) -> Tensor:
    """Of numbers (121, HORIZON), one for each token: the sums over those chosen in each state."""
    sums = torch.zeros(len(STATES) + 1, dtype=x.dtype)
    return sums.index_add(0, STATE_OF.flatten(), x.flatten())[:-1]


def visits(logp: Tensor) -> Tensor:
    """The probability (40,) that a response passes through each state."""
    return sum_by_state(logp.exp()[:, None].expand(-1, HORIZON))


def exact_values(logp: Tensor, logref: Tensor, scores: Tensor, beta: float) -> Tensor:
    """V of the 40 STATES: expected score less beta times the log ratio, of what is still to come.

    Per state, the mean over responses of the whole of it, less what was paid on the way there.
    """
    whole = (logp.exp() * (scores - beta * (logp - logref)))[:, None].expand(-1, HORIZON)
    paid = -beta * (visits(logp).log() - visits(logref).log())
    return sum_by_state(whole) / visits(logp) - paid


class TableCritic(nn.Module):
    """A critic with one parameter a state. It has no value for anything else: NaN."""

    def __init__(self, values: Tensor):
        super().__init__()
        self.table = nn.Parameter(values.detach().clone())

    @property
    def network(self) -> nn.Module:
        return self

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        places = torch.full(input_ids.shape, len(STATES))
        for row, (ids, mask) in enumerate(zip(input_ids.tolist(), attention_mask, strict=True)):
            real = mask.nonzero().flatten().tolist()
            for position in real[len(PROMPT) - 1 :]:
                so_far = tuple(ids[i] for i in real if i <= position)[len(PROMPT) :]
                if so_far in STATES:
                    places[row, position] = STATES.index(so_far)
        return torch.cat([self.table, self.table.new_full((1,), torch.nan)])[places]
