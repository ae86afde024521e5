"""Sampling: tokens a second against Transformers' `generate` and the bandwidth of memory.

    python benchmarks/sampling.py                             # the shape of SmolLM2, in turns
    python benchmarks/sampling.py --shape 1b --rows 128 --new-tokens 256 --dtype bfloat16
    python benchmarks/sampling.py --shape <folder of a model>

Each way draws from the same distribution for the same prompts, and every response is as long as may
be. The limit is what reading weights, keys and values once a token would take at the speed of a
copy in the same run. benchmarks/gpu.sh has the shape of Llama-3.2-1B on a GPU.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # as harness/program.py has it

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402
from transformers import GenerationConfig, PreTrainedModel  # noqa: E402

from benchmarks.parts.bench import Bench, weight_bytes  # noqa: E402
from benchmarks.parts.composed import algorithm, bind, samplers  # noqa: E402
from benchmarks.parts.processes import compared  # noqa: E402
from datamodules.records import Prompt  # noqa: E402
from harness.quiet import quiet_transformers  # noqa: E402
from lightning_modules.models.actor_critic import ActorCritic  # noqa: E402
from lightning_modules.models.reference import Reference  # noqa: E402
from lightning_modules.rewards.reward import Reward  # noqa: E402
from lightning_modules.rollouts.sampler import Sampler  # noqa: E402
from lightning_modules.rollouts.tokens import sample_tokens  # noqa: E402

PROFILED = 12  # tokens
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """In turns, on whatever device there is."""
    options = parse()
    quiet_transformers()
    torch.set_num_threads(options.threads)
    bench = Bench("sampling", options.tiny)
    speed = Speed(bench, options.prompt_tokens, bench.copy_tbps())
    bench.say(copy_tbps=speed.copy_tbps, device=str(bench.device), threads=options.threads)
    model = bench.model(options.shape, DTYPES[options.dtype])
    ways = speed.ours(model, options.rows, options.new_tokens)
    ways["generate"] = speed.generate(model, options.rows, options.new_tokens)
    found: dict[str, list[float]] = {case: [] for case in ways}
    for _ in range(options.rounds):
        for case, way in ways.items():
            with bench.case(case):
                rate = speed.measure(case, model, options.rows, options.new_tokens, way)
                found[case].append(rate)
    for case, rates in found.items():
        if case != "generate":
            print(compared(f"{case} / generate", rates, found["generate"]))
    print("tokens a second: ", {case: round(statistics.median(x)) for case, x in found.items()})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="135m", help="135m, 1b, 8b, or the folder of a model")
    parser.add_argument("--rows", type=int, default=16, help="prompts, a response to each")
    parser.add_argument("--prompt-tokens", type=int, default=48)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights; default: the device's")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tiny", action="store_true", help="to see that it runs")
    options = parser.parse_args()
    options.dtype = options.dtype or ("bfloat16" if torch.cuda.is_available() else "float32")
    if options.tiny:
        options.rows, options.prompt_tokens, options.new_tokens, options.rounds = 4, 8, 6, 1
    return options


def sampling(bench: Bench) -> None:
    """The phase of gpu.py: both kinds of weights as training has them, then the peers."""
    new, rows, many, prompt_tokens = (6, 4, 8, 8) if bench.tiny else (256, 128, 512, 128)
    speed = Speed(bench, prompt_tokens, bench.copy_tbps())
    bench.say(copy_tbps=speed.copy_tbps)
    model = bench.model("1b", torch.float32)
    speed.all_of_ours("float32 weights, autocast", model, rows, new, bench.autocast())
    profiled(bench, "profile, float32 weights", model, rows, bench.autocast())
    model = model.to(torch.bfloat16)
    for count in (rows, many):
        shown = f"{count} rows"
        speed.all_of_ours(f"bfloat16 weights, {shown}", model, count, new, nullcontext())
        peers = {"generate": speed.generate(model, count, new)}
        if bench.on_gpu:  # its cache takes nearly all memory that is free
            peers["continuous batching"] = speed.continuous_batching(model, count, new)
        for case, way in peers.items():
            speed.one(f"{case}, {shown}", model, count, new, way)
    profiled(bench, "profile, bfloat16 weights", model, rows, nullcontext())
    one_token(bench, "sample_tokens", rows)


def graphs(bench: Bench) -> None:
    """The phase of gpu.py: our samplers, whose tokens shall be the plain loop's."""
    new, rows, prompt_tokens = (6, 4, 8) if bench.tiny else (256, 128, 128)
    speed = Speed(bench, prompt_tokens, bench.copy_tbps())
    model = bench.model("1b", torch.bfloat16)
    ways = speed.ours(model, rows, new)
    with torch.no_grad():
        plain = ways["plain"]()
    for case, way in ways.items():
        speed.one(case, model, rows, new, way)
        if bench.wants(case):
            with bench.case(f"tokens of {case}"), torch.no_grad():
                tokens = way()
                same, first = ((tokens == plain)[:, :n].double().mean() for n in (new, 2))
                bench.say(case=case, same_tokens=float(same), same_first_tokens=float(first))


class NoReward(Reward):
    """Sampling needs none."""

    name = "none"


class Speed:
    """Tokens a second, and the share of what reading weights and cache would allow."""

    def __init__(self, bench: Bench, prompt_tokens: int, copy_tbps: float):
        self.bench = bench
        self.prompt_tokens = prompt_tokens
        self.copy_tbps = copy_tbps

    def ours(self, model: PreTrainedModel, rows: int, new: int) -> dict[str, Callable[[], Tensor]]:
        """Each of our samplers as a rollout calls it; they return the responses' tokens."""
        batch = self.bench.prompts(model, rows, self.prompt_tokens)
        batch["prompts"] = [Prompt.from_text("?")] * rows

        def way(sampler: Sampler) -> Callable[[], Tensor]:
            module, reference = algorithm("reinforce"), Reference(model, shares_policy=True)
            collector = bind(module, ActorCritic(model), reference, NoReward(), new).collector
            collector.sampler = sampler

            def respond() -> Tensor:
                noise = torch.Generator().manual_seed(1)
                return collector.respond(model, batch, noise, 1).sequences[:, -new:]

            return respond

        return {case: way(sampler) for case, sampler in samplers(self.bench.device).items()}

    def generate(self, model: PreTrainedModel, rows: int, new: int) -> Callable[[], Tensor]:
        """Transformers' own loop, with the attention that is its default."""
        prompts = self.bench.prompts(model, rows, self.prompt_tokens)

        def way() -> Tensor:
            with _cudnn_attention():
                return model.generate(
                    input_ids=prompts["prompt_ids"],
                    attention_mask=prompts["prompt_mask"],
                    generation_config=_as_ours(new),
                )

        return way

    def continuous_batching(
        self, model: PreTrainedModel, rows: int, new: int
    ) -> Callable[[], Tensor | None]:
        """Transformers' own engine, which forms its batches itself."""
        prompts = self.bench.prompts(model, rows, self.prompt_tokens)
        pairs = zip(prompts["prompt_ids"].cpu(), prompts["prompt_mask"].cpu(), strict=True)
        inputs = [ids[mask].tolist() for ids, mask in pairs]

        def way() -> None:
            attention = model.config._attn_implementation
            try:
                made = model.generate_batch(inputs=inputs, generation_config=_as_ours(new))
            finally:
                model.set_attn_implementation(attention)
            # Its thread tells of errors in the log alone.
            lengths = [len(made[key].generated_tokens) for key in made]
            if lengths != [new] * rows:
                raise RuntimeError(f"{len(lengths)} responses of {sum(lengths)} tokens in all")

        return way

    def all_of_ours(
        self, case: str, model: PreTrainedModel, rows: int, new: int, how: AbstractContextManager
    ) -> None:
        with how:
            for name, way in self.ours(model, rows, new).items():
                self.one(f"{case}, {name}", model, rows, new, way)

    def one(
        self, case: str, model: PreTrainedModel, rows: int, new: int, way: Callable[[], Any]
    ) -> None:
        """A case of gpu.py, which may not be asked for and may fail alone."""
        if self.bench.wants(case):
            with self.bench.case(case):
                self.measure(case, model, rows, new, way)

    @torch.no_grad()
    def measure(
        self, case: str, model: PreTrainedModel, rows: int, new: int, way: Callable[[], Any]
    ) -> float:
        """Twice, the first time apart; returns the tokens a second of the second time."""
        first = self.bench.seconds(way)
        self.bench.forget_peak()
        seconds = self.bench.seconds(way)
        best = new * least_bytes(model, rows, self.prompt_tokens + new / 2)
        best /= self.copy_tbps * 1e12
        self.bench.say(
            case=case,
            rows=rows,
            new_tokens=new,
            first_s=first,
            seconds=seconds,
            tokens_per_s=rows * new / seconds,
            ms_per_step=1e3 * seconds / new,
            share_of_bandwidth=best / seconds,
            peak_gib=self.bench.peak_gib(),
        )
        return rows * new / seconds


def _as_ours(new: int) -> GenerationConfig:
    """The whole distribution, and no end before `new` tokens."""
    return GenerationConfig(
        do_sample=True,
        top_k=0,
        top_p=1.0,
        temperature=1.0,
        max_new_tokens=new,
        min_new_tokens=None,
        eos_token_id=None,
        pad_token_id=0,
    )


@contextmanager
def _cudnn_attention() -> Iterator[None]:
    """PyTorch's default, which this project turns off (harness/parts/hardware.py)."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def least_bytes(model: PreTrainedModel, rows: int, length: float) -> float:
    """What a decoding step must read: weights once, and keys and values of `length` tokens.

    Under autocast weights are read in bfloat16, whatever they are kept in.
    """
    c, device = model.config, model.device.type
    autocast = torch.is_autocast_enabled(device)
    element = (torch.get_autocast_dtype(device) if autocast else model.dtype).itemsize
    heads = c.num_key_value_heads
    width = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    per_token = 2 * element * c.num_hidden_layers * heads * width
    return weight_bytes(model, element) + rows * length * per_token


def profiled(
    bench: Bench, case: str, model: PreTrainedModel, rows: int, how: AbstractContextManager
) -> None:
    """Where a few tokens' time goes: kernels, operators, launches and waits per token."""
    if not bench.wants(case):
        return
    speed = Speed(bench, 8 if bench.tiny else 128, 1.0)
    activities = [ProfilerActivity.CPU]
    if bench.on_gpu:
        activities.append(ProfilerActivity.CUDA)
    with bench.case(case), torch.no_grad(), how:
        way = speed.ours(model, rows, PROFILED)["plain"]  # within a graph nothing is seen
        way()
        with profile(activities=activities) as seen:
            way()
            bench.synchronize()
        _say_profile(bench, case, seen)


def _say_profile(bench: Bench, case: str, seen: profile) -> None:
    averages = seen.key_averages()
    for order in ("self_device_time_total", "self_cpu_time_total"):
        print(averages.table(sort_by=order, row_limit=25, max_name_column_width=70), flush=True)
    on_cpu = [e for e in averages if e.device_type.name == "CPU"]
    kernels = [e for e in averages if e.device_type.name == "CUDA"]
    for what, rows, clock in (
        ("kernel", kernels, "self_device_time_total"),
        ("operator", on_cpu, "self_cpu_time_total"),
    ):
        total = sum(getattr(e, clock) for e in rows) or 1
        for e in sorted(rows, key=lambda e: getattr(e, clock), reverse=True)[:8]:
            used = getattr(e, clock)
            share, count = used / total, e.count / PROFILED
            name = e.key[:90]
            bench.say(case=case, **{what: name}, share=share, ms=used / 1e3, per_token=count)
    calls = {e.key: e.count / PROFILED for e in on_cpu}
    names = ("cudaLaunchKernel", "cudaStreamSynchronize", "cudaMemcpyAsync", "aten::item")
    bench.say(
        case=case,
        device_ms_per_token=sum(e.self_device_time_total for e in kernels) / PROFILED / 1e3,
        **{f"{name}, per token": calls.get(name, 0.0) for name in names},
    )


def one_token(bench: Bench, case: str, rows: int) -> None:
    """`sample_tokens` at a vocabulary of 128k, beside a softmax of as many numbers."""
    if not bench.wants(case):
        return
    with bench.case(case), torch.no_grad():
        logits = 3 * torch.randn(rows, 512 if bench.tiny else 128256, device=bench.device)
        logits = logits.to(torch.bfloat16)
        uniforms = torch.rand(rows, dtype=torch.float64).to(bench.device)
        for name, way in (
            ("sample_tokens", lambda: sample_tokens(logits, 1.0, uniforms)),
            ("float32 softmax alone", lambda: torch.softmax(logits.float(), -1)[:, 0]),
        ):
            bench.say(case=case, way=name, ms=1e3 * bench.seconds(way, repeats=20, warmup=3))


if __name__ == "__main__":
    main()
