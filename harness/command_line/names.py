"""What a name that is wrong may have meant."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

# What other frameworks (TRL, OpenRLHF, verl) and Lightning call our options, by the last part.
ELSEWHERE = {
    "activation_checkpointing": "hardware.checkpointing",
    "api_base": "judge.base_url",
    "api_key": "judge.key_from",
    "batch_size": "algo.prompts_per_iteration",
    "bf16": "hardware.precision",
    "clip_ratio": "algo.clip_range",
    "cliprange": "algo.clip_range",
    "cliprange_value": "algo.value_clip_range",
    "dataset_name": "data=files data.path",
    "eps_clip": "algo.clip_range",
    "gae_lambda": "algo.lam",
    "generate_max_len": "data.max_response_tokens",
    "gradient_checkpointing": "hardware.checkpointing",
    "init_kl_coef": "algo.beta",
    "kl_coef": "algo.beta",
    "kl_loss_coef": "algo.beta",
    "lambd": "algo.lam",
    "learning_rate": "algo.optimizer.lr",
    "lora_r": "adapter=lora adapter.config.r",
    "lora_rank": "adapter=lora adapter.config.r",
    "max_epochs": "algo.iterations",
    "max_new_tokens": "data.max_response_tokens",
    "max_steps": "algo.iterations",
    "mini_batch_size": "algo.minibatches",
    "model_name_or_path": "model=pretrained model.pretrained",
    "n_samples_per_prompt": "algo.samples_per_prompt",
    "num_generations": "algo.samples_per_prompt",
    "num_mini_batches": "algo.minibatches",
    "num_ppo_epochs": "algo.epochs",
    "num_train_epochs": "algo.iterations",
    "output_dir": "hydra.run.dir",
    "per_device_train_batch_size": "algo.micro_batch_size",
    "ppo_epochs": "algo.epochs",
    "ppo_max_token_len_per_gpu": "algo.micro_batch_tokens",
    "pretrain": "model=pretrained model.pretrained",
    "prompt_max_len": "data.max_prompt_tokens",
    "r": "adapter=lora adapter.config.r",
    "response_length": "data.max_response_tokens",
    "rollout_batch_size": "algo.prompts_per_iteration",
    "train_batch_size": "algo.prompts_per_iteration",
    "vf_coef": "algo.value_coef",
}
MOST = 3  # suggestions
NEAR = 0.65  # at least so similar
CLOSER = 0.12  # those that are less similar than the best by more are none


def nearest(name: str, there: Iterable[str], most: int = MOST) -> list[str]:
    """The names that are most like this one, the most similar first; none if none is near."""
    scores = {other: likeness(name, other) for other in there}
    return _best(scores, most)


def likeness(a: str, b: str) -> float:
    """From 0 to 1: how similar two names are. A word of another name, or its beginning, is near."""
    short, long = sorted((a.lower(), b.lower()), key=len)
    is_part = len(short) > 2 and (long.startswith(short) or short in long.split("_"))
    return max(ratio(a, b), 0.8 if is_part else 0.0)


def ratio(a: str, b: str) -> float:
    """The share of letters that two names have in common, in this order."""
    return difflib.SequenceMatcher(None, a.lower(), b.lower(), autojunk=False).ratio()


def suggestions(key: str, options: Sequence[str]) -> list[str]:
    """The options whose names are like `key`: by the last part, which may be in another section,
    and by the whole.
    """
    scores = {option: _fit(key, option) for option in options}
    return _best(scores, MOST)


def _fit(key: str, option: str) -> float:
    """How well an option may be what was meant. Its last part has to be near; the same section is
    better than one like it, and a stage, whose options are rarely given, worse than any.
    """
    *inside, last = key.split(".")
    *section, name = option.split(".")
    score = likeness(last, name)
    if score < NEAR:
        return 0.0
    if inside and inside == section[: len(inside)]:
        score += 0.1
    elif inside and section:
        score -= 0.15 * (1 - ratio(".".join(inside), ".".join(section)))
    if "recommended" in section or (section[:1] == ["stages"] and inside[:1] != ["stages"]):
        score -= 0.2
    return score - 0.02 * abs(len(section) - len(inside))


def _best(scores: Mapping[str, float], most: int) -> list[str]:
    ranked = sorted(scores, key=lambda name: (-scores[name], name))
    return [
        name
        for name in ranked[:most]
        if scores[name] >= NEAR and scores[name] >= scores[ranked[0]] - CLOSER
    ]
