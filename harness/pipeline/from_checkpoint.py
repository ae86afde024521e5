"""A policy as it was at a checkpoint of its run, as a folder that plain transformers loads, and its
value function beside it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from harness.errors import RunError
from harness.parts.choices import Choices
from harness.pipeline.critic_export import export_critic
from harness.pipeline.model_folder import export, export_dtype
from harness.pipeline.pipeline import Pipeline
from harness.pipeline.policy_models import actor_critic, bind_reward
from harness.quiet import quiet_transformers
from harness.reports.console import make_console, say
from harness.reports.plain_console import WHOLE, line
from harness.runs.checkpoints import find_checkpoint, load_trained
from harness.runs.command import EXPORTS
from harness.runs.folder import Run, today
from harness.typed import from_here
from lightning_modules.options.paths import MODEL, critic_folder
from lightning_modules.policy import PolicyModule
from lightning_modules.rewards.learned import LearnedReward


def export_checkpoint(
    choices: Choices, wanted: str | None, target: Path | None, reward: Mapping[str, Any]
) -> Path:
    """Write the policy of the run that the choices are of as it was at one of its checkpoints;
    `wanted` None means the last one, `reward` is what the run's config says of it. Returns the
    folder, by default exports/<checkpoint> below the run's.
    """
    quiet_transformers()
    pipeline = Pipeline(choices, make_console())
    config, folder = pipeline.cfg, choices.origin.folder
    if not isinstance(pipeline.algorithm, PolicyModule):
        its = f"; its model is {folder / MODEL}" if (folder / MODEL).is_dir() else ""
        raise RunError(
            f"run={folder}: is one of algo={config.algo.name}; export takes policies{its}"
        )
    checkpoint = find_checkpoint(folder, wanted)
    target = target or folder / EXPORTS / checkpoint.stem
    target.mkdir(parents=True, exist_ok=True)
    settings = OmegaConf.to_container(config, resolve=True)
    # If the reference must be remade.
    pipeline.run = Run(target, settings, wandb_id="", lock=None, date=today(settings))
    with pipeline.console.log.kept_in(target, config):
        critic, start, notes = _critic(pipeline, reward)
        adapted = bind_reward(pipeline) if pipeline.one_base else None
        model, _ = actor_critic(pipeline, critic, config.seed, adapted, critic_from=start)
        load_trained(model, checkpoint)
        encoder = pipeline.load_unlimited(*pipeline.reference())
        dtype = export_dtype(config.callbacks)
        export(model.lm, encoder, target, pipeline.algorithm.options.temperature, dtype)
        say(pipeline.console, notes + export_critic(model, encoder, target, dtype))
        made, source = ((from_here(path), WHOLE) for path in (target / MODEL, checkpoint))
        pipeline.console.print(line(source, " as a model: ", made))
    return target


def _critic(
    pipeline: Pipeline, reward: Mapping[str, Any]
) -> tuple[str | None, str | None, list[str]]:
    """The kind of critic to export, and for a network of its own what it began as: a checkpoint
    holds what was trained and no more. No kind where that is gone, which is said.
    """
    options = pipeline.algorithm.options
    start, there = None, True
    if options.critic == "copy":
        start = options.critic_from
        if start:
            there = Path(critic_folder(start)).is_dir()
        elif str(reward.get("_target_", "")).endswith(f".{LearnedReward.__name__}"):
            pipeline.reward = LearnedReward(normalise=reward.get("normalise", True))
            there = "reward_model" in pipeline.origin.stages
    if there:
        return options.critic, start, []
    return None, None, [f"no critic/: {start or 'the reward model'}, as which it began, is gone"]
