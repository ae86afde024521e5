"""Collecting a rollout: the order of operations of RLHF, in one place."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.forward.shared_prompts import can_share_prompts
from lightning_modules.forward.token_outputs import TokenOutputs
from lightning_modules.forward.within_memory import AsManyAsFit
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.reference import Reference
from lightning_modules.objectives.advantages import last_token
from lightning_modules.objectives.masked import masked, masked_sum
from lightning_modules.rewards.reward import Responses, Reward
from lightning_modules.rollouts.micro_batches import MicroBatches
from lightning_modules.rollouts.rollout import Rollout
from lightning_modules.rollouts.sampler import Sampler
from lightning_modules.rollouts.seeding import Noise, uniforms


@dataclass(frozen=True)
class Vocabulary:
    """What of the policy's tokenizer sampling needs to know."""

    stop_ids: tuple[int, ...]
    pad_id: int
    max_response_tokens: int
    decode: Callable[[Tensor], str]


def clock(device: torch.device) -> float:
    """Seconds, read when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Collector:
    """Samples responses and gathers all that an update treats as constant. `sampler` may be given
    another value when the device is known.
    """

    def __init__(
        self,
        *,
        model: ActorCritic,
        reference: Reference,
        reward: Reward,
        vocabulary: Vocabulary,
        temperature: float,
        micro_batches: MicroBatches,
    ):
        self.model = model
        self.reference = reference
        self.reward = reward
        self.vocabulary = vocabulary
        self.temperature = temperature
        self.micro_batches = micro_batches
        self.at_a_time = AsManyAsFit("the sampler takes", say=lambda line: micro_batches.say(line))
        self.shares_prompts = False
        self.sampler = Sampler()
        self._begun: tuple[Tensor, Iterator[TokenOutputs]] | None = None

    def share_prompts(self) -> None:
        """Let the samples of a prompt read it once, if all models that train on them can."""
        can = can_share_prompts(self.model.lm)
        with self.reference.active() as reference:
            can = can and can_share_prompts(reference)
        if self.model.critic is not None:
            with self.model.critic.reading() as critic:
                can = can and can_share_prompts(critic)
        self.shares_prompts = can

    def to(self, device: torch.device) -> None:
        """Move the frozen models; the policy moves with its module."""
        self.reference.to(device)
        self.reward.to(device)

    @torch.no_grad()
    def collect(
        self,
        batch: dict[str, Any],
        noise: Noise,
        samples: int,
        *,
        with_reference: bool,
        first_step: torch.Generator | None = None,
    ) -> tuple[Rollout, Responses, dict[str, float]]:
        """`samples` responses to each prompt, with what policy, reference and reward say of them.

        `first_step` draws the order of all sequences in the first optimiser step: what is one
        micro-batch there begins here (`begun_on`).

        Returns the rollout (yet without rewards), its responses for reading, and seconds by part.
        """
        device = next(self.model.parameters()).device
        started = clock(device)
        # 1. Responses of the current policy.
        responses = self.respond(self.model.lm, batch, noise, samples)
        sampled = clock(device)
        # 2. Scores. A response that was cut off ended there, and is scored as it stands; one that
        #    cannot be scored leaves the rollout: no token of it is real from here on.
        scores = self.reward.score(responses).float()
        mask = responses.response_mask & ~scores.isnan()[:, None]
        scored = clock(device)
        # 3. The policy's own log-probabilities and values, by the forward pass that updates use, so
        #    that the first importance weight is 1.
        tensors = (responses.sequences, responses.prompt_mask, mask, responses.prompt_of)
        order = None
        if first_step is not None:
            order = torch.randperm(len(mask), generator=first_step).to(mask.device)
        old = self._policy_outputs(*tensors, order)
        said = responses.logprobs
        sampled_with = None if said is None else masked(said, mask)
        # 4. The reference's log-probabilities.
        ref_logprobs = self._reference_logprobs(*tensors, order) if with_reference else None
        collected = clock(device)
        rollout = Rollout(
            prompt_mask=responses.prompt_mask,
            sequences=responses.sequences,
            response_mask=mask,
            stopped=responses.stopped,
            sampler_logprobs=sampled_with,
            old_logprobs=old.logprobs,
            entropy=old.entropy,
            ref_logprobs=ref_logprobs,
            values=old.values,
            scores=scores,
            prompt_of=responses.prompt_of,
        )
        seconds = {
            "time/collect": collected - started - (scored - sampled),
            "time/score": scored - sampled,
        }
        return rollout, responses, seconds

    @torch.no_grad()
    def respond(
        self, lm: nn.Module, batch: dict[str, Any], noise: Noise, samples: int
    ) -> Responses:
        """Responses of `lm` to the prompts of `batch`, `samples` for each, side by side."""
        words = self.vocabulary
        device = batch["prompt_ids"].device
        drawn = uniforms(noise, len(batch["prompt_ids"]), samples, words.max_response_tokens)
        sequences, response_mask, logprobs = self.at_a_time.within_memory(
            lambda: self.sampler.in_parts(
                self.at_a_time.sequences,
                lm,
                batch["prompt_ids"],
                batch["prompt_mask"],
                drawn.to(device),
                temperature=self.temperature,
                stop_id=words.stop_ids,
                pad_id=words.pad_id,
            ),
            len(drawn),
        )
        prompts = [p for p in batch["prompts"] for _ in range(samples)]
        prompt_of = None
        if samples > 1 and self.shares_prompts:
            prompt_of = torch.arange(len(prompts), device=device) // samples
        prompt_mask = batch["prompt_mask"].repeat_interleave(samples, 0)
        # The last sampled token is a stop token; the prompt is not looked at.
        last = masked_sum(sequences[:, prompt_mask.shape[1] :], last_token(response_mask))
        stopped = torch.isin(last, torch.tensor(words.stop_ids, device=last.device))
        return Responses(
            prompts,
            sequences,
            prompt_mask,
            response_mask,
            stopped,
            words.decode,
            prompt_of,
            logprobs,
        )

    def begun_on(self, rollout: Rollout) -> list[Iterator[TokenOutputs]]:
        """The passes (ActorCritic.passes) of the first optimiser step on a rollout, if they were
        begun when it was collected; only once.
        """
        begun, self._begun = self._begun, None
        return [begun[1]] if begun is not None and begun[0] is rollout.sequences else []

    def _policy_outputs(
        self,
        sequences: Tensor,
        prompt_mask: Tensor,
        response_mask: Tensor,
        prompt_of: Tensor | None,
        order: Tensor | None,
    ) -> TokenOutputs:
        def outputs(*part: Tensor, prompt_of: Tensor | None) -> TokenOutputs:
            given = (*part, self.temperature, True, prompt_of)
            self._begun = None
            if order is None or len(part[0]) < len(sequences):
                return self.model(*given)
            with torch.enable_grad():
                passes = self.model.passes(*given)
                first = next(passes)
            self._begun = sequences, chain([first], passes)
            if self.model.values_have_a_pass:
                first = first._replace(values=self.model.values(*part, prompt_of))
            return first

        tensors = (sequences, prompt_mask, response_mask, prompt_of)
        return TokenOutputs(*self.micro_batches.of_all(outputs, *tensors, order))

    def _reference_logprobs(self, *tensors: Tensor | None) -> Tensor:
        def outputs(*part: Tensor, prompt_of: Tensor | None) -> tuple[Tensor]:
            return (self.reference.logprobs(*part, self.temperature, prompt_of),)

        return self.micro_batches.of_all(outputs, *tensors)[0]
