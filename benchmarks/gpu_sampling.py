"""Sampling at a real shape: tokens per second against `generate` and against memory's bandwidth,
what the time goes into, and an experiment with a captured graph.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import GenerationConfig, PreTrainedModel, StaticCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from benchmarks.gpu_common import Bench, weight_bytes
from lightning_modules.forward.mixed_precision import casts_kept
from lightning_modules.forward.passes import cache_name, position_ids
from lightning_modules.rollouts.generation import generate, sample_tokens

NEVER = -1  # a stop token that no distribution has
PROFILED = 12  # tokens


def sampling(bench: Bench) -> None:
    """Ours as training runs it, with both kinds of weights, then transformers' `generate`."""
    new, rows, many = (6, 4, 8) if bench.tiny else (256, 128, 512)
    copy = bench.copy_tbps()
    bench.say(copy_tbps=copy)
    speed = _Speed(bench, 8 if bench.tiny else 128, copy)
    model = bench.model("1b", torch.float32)
    speed.ours("float32 weights, autocast", model, rows, new, _autocast(bench))
    _profile(bench, "profile, float32 weights", model, rows, _autocast(bench))
    model = model.to(torch.bfloat16)
    speed.ours("bfloat16 weights, autocast", model, rows, new, _autocast(bench))
    speed.ours("bfloat16 weights", model, rows, new, nullcontext())
    speed.ours("bfloat16 weights, cuDNN attention", model, rows, new, _cudnn_attention())
    speed.theirs("generate", model, rows, new)
    _profile(bench, "profile, bfloat16 weights", model, rows, _autocast(bench))
    _sampler(bench, "sample_tokens", rows)
    speed.ours(f"bfloat16 weights, {many} rows", model, many, new // 2, nullcontext())
    speed.theirs(f"generate, {many} rows", model, many, new // 2)


@contextmanager
def _cudnn_attention() -> Iterator[None]:
    """PyTorch's default, which this project turns off (harness/parts/hardware.py)."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def _autocast(bench: Bench) -> AbstractContextManager:
    """As Lightning's bf16-mixed has it."""
    return torch.autocast(bench.device.type, torch.bfloat16, cache_enabled=False)


class _Speed:
    """Tokens per second, and the share of what reading weights and cache would allow."""

    def __init__(self, bench: Bench, prompt_tokens: int, copy_tbps: float):
        self.bench = bench
        self.prompt_tokens = prompt_tokens
        self.copy_tbps = copy_tbps

    def ours(
        self,
        case: str,
        model: PreTrainedModel,
        rows: int,
        new: int,
        context: AbstractContextManager,
    ) -> None:
        prompts = self.bench.prompts(model, rows, self.prompt_tokens)
        uniforms = torch.rand(rows, new, dtype=torch.float64).to(self.bench.device)

        def work() -> None:
            with casts_kept(self.bench.device):
                _ours(model, prompts, uniforms)

        with context:
            self._measure(case, model, rows, new, work)

    def theirs(self, case: str, model: PreTrainedModel, rows: int, new: int) -> None:
        prompts = self.bench.prompts(model, rows, self.prompt_tokens)

        def work() -> None:
            model.generate(
                input_ids=prompts["prompt_ids"],
                attention_mask=prompts["prompt_mask"],
                generation_config=GenerationConfig(
                    do_sample=True,
                    top_k=0,
                    top_p=1.0,
                    temperature=1.0,
                    max_new_tokens=new,
                    pad_token_id=0,
                ),
            )

        with _cudnn_attention():
            self._measure(case, model, rows, new, work)

    def _measure(
        self, case: str, model: PreTrainedModel, rows: int, new: int, work: Callable[..., None]
    ) -> None:
        if not self.bench.wants(case):
            return
        with self.bench.case(case), torch.no_grad():
            first = self.bench.seconds(work)
            if self.bench.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds = self.bench.seconds(work)
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
                peak_gib=_peak_gib(self.bench),
            )


def least_bytes(model: PreTrainedModel, rows: int, length: float) -> float:
    """What a decoding step must read: weights once, and keys and values of `length` tokens."""
    c = model.config
    per_token = 2 * 2 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim
    return weight_bytes(model) + rows * length * per_token


def _peak_gib(bench: Bench) -> float | None:
    return torch.cuda.max_memory_allocated() / 2**30 if bench.device.type == "cuda" else None


def _ours(model: PreTrainedModel, prompts: dict[str, Tensor], uniforms: Tensor) -> Tensor:
    """The responses' tokens alone."""
    sequences, _ = generate(
        model, **prompts, uniforms=uniforms, temperature=1.0, stop_id=NEVER, pad_id=0
    )
    return sequences[:, -uniforms.shape[1] :]


def _profile(
    bench: Bench, case: str, model: PreTrainedModel, rows: int, context: AbstractContextManager
) -> None:
    """Where a few tokens' time goes: kernels, operators, launches and waits per token."""
    if not bench.wants(case):
        return
    prompts = bench.prompts(model, rows, 8 if bench.tiny else 128)
    uniforms = torch.rand(rows, PROFILED, dtype=torch.float64).to(bench.device)
    activities = [ProfilerActivity.CPU]
    if bench.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with bench.case(case), torch.no_grad(), context:
        _ours(model, prompts, uniforms)
        with profile(activities=activities) as seen:
            _ours(model, prompts, uniforms)
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


def _sampler(bench: Bench, case: str, rows: int) -> None:
    """`sample_tokens` at a vocabulary of 128k, beside cheaper ways to the same tokens."""
    if not bench.wants(case):
        return
    with bench.case(case), torch.no_grad():
        logits = 3 * torch.randn(rows, 512 if bench.tiny else 128256, device=bench.device)
        logits = logits.to(torch.bfloat16)
        uniforms = torch.rand(rows, dtype=torch.float64).to(bench.device)
        usual = sample_tokens(logits, 1.0, uniforms)
        for name, way in (
            ("sample_tokens", lambda: sample_tokens(logits, 1.0, uniforms)),
            ("float32 softmax, float64 sums", lambda: _float32(logits, uniforms)),
            ("float32 softmax, float64 sums of blocks", lambda: _blocks(logits, uniforms)),
            ("float32 softmax alone", lambda: torch.softmax(logits.float(), -1)[:, 0]),
        ):
            ms = 1e3 * bench.seconds(way, repeats=20, warmup=3)
            same = float((way() == usual).double().mean())
            bench.say(case=case, way=name, ms=ms, same_tokens=same)


def _float32(logits: Tensor, uniforms: Tensor) -> Tensor:
    cumulative = torch.softmax(logits.float(), -1).cumsum(-1, dtype=torch.float64)
    return _invert(cumulative, uniforms[:, None] * cumulative[:, -1:])


def _blocks(logits: Tensor, uniforms: Tensor, size: int = 256) -> Tensor:
    """The block first, then the token in it: only sums of blocks are held in float64."""
    rows, vocabulary = logits.shape
    probabilities = torch.softmax(logits.float(), -1)
    short = -vocabulary % size
    blocks = torch.nn.functional.pad(probabilities, (0, short)).view(rows, -1, size)
    sums = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    targets = uniforms[:, None] * sums[:, -1:]
    block = _invert(sums, targets)
    before = torch.nn.functional.pad(sums, (1, 0)).gather(1, block[:, None])
    inside = blocks[torch.arange(rows, device=logits.device), block].cumsum(-1, dtype=torch.float64)
    return (block * size + _invert(before + inside, targets)).clamp(max=vocabulary - 1)


def _invert(cumulative: Tensor, targets: Tensor) -> Tensor:
    found = torch.searchsorted(cumulative, targets, right=True).squeeze(1)
    return found.clamp(max=cumulative.shape[1] - 1)


# -- an experiment, to learn what a captured graph and a static cache would give -------------------


def graphs(bench: Bench) -> None:
    """One decoding step as one captured graph, against the plain loop for the same noise."""
    new, rows, prompt_tokens = (6, 4, 8) if bench.tiny else (256, 128, 128)
    copy = bench.copy_tbps()
    model = bench.model("1b", torch.bfloat16)
    prompts = bench.prompts(model, rows, prompt_tokens)
    uniforms = torch.rand(rows, new, dtype=torch.float64).to(bench.device)
    with torch.no_grad():
        plain = _ours(model, prompts, uniforms)
    ALL_ATTENTION_FUNCTIONS.register("grouped", _grouped_attention)
    for attention in ("sdpa", "grouped"):
        for captured in (False, True):
            case = f"{attention}, {'graph' if captured else 'no graph'}"
            if not bench.wants(case):
                continue
            with bench.case(case), torch.no_grad():
                if captured and bench.device.type != "cuda":
                    bench.say(case=case, skipped="graphs are captured on CUDA alone")
                    continue
                model.set_attn_implementation(attention)
                step = _StaticDecoder(model, prompts, uniforms)
                tokens = step.run(captured)
                seconds = bench.seconds(lambda step=step, way=captured: step.run(way))
                best = new * least_bytes(model, rows, prompt_tokens + new / 2) / copy / 1e12
                bench.say(
                    case=case,
                    seconds=seconds,
                    tokens_per_s=rows * new / seconds,
                    ms_per_step=1e3 * seconds / new,
                    share_of_bandwidth=best / seconds,
                    same_tokens=float((tokens == plain).double().mean()),
                    same_first_tokens=float((tokens[:, :2] == plain[:, :2]).double().mean()),
                )
    model.set_attn_implementation("sdpa")


def _grouped_attention(
    module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs
) -> tuple[Tensor, None]:
    """Queries that share keys as rows of one product: no key or value is repeated in memory."""
    batch, heads, length, width = query.shape
    if length > 1:
        return ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    grouped = query.reshape(batch, key.shape[1], -1, width)
    attended = torch.nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=attention_mask, scale=scaling
    )
    return attended.reshape(batch, 1, heads, width), None


class _StaticDecoder:
    """Everything that a step reads and writes has one place, so that it can be captured."""

    def __init__(self, model: PreTrainedModel, prompts: dict[str, Tensor], uniforms: Tensor):
        ids, mask = prompts["prompt_ids"], prompts["prompt_mask"]
        self.model, self.ids, self.mask, self.uniforms = model, ids, mask, uniforms
        rows, width = ids.shape
        self.total = width + uniforms.shape[1]
        self.cache = StaticCache(config=model.config, max_cache_len=self.total)
        self.seen = mask.new_zeros(rows, 1, 1, self.total)
        self.positions = ids.new_zeros(rows, 1)
        self.place = ids.new_zeros(1)  # how many tokens were sampled
        self.logits = torch.zeros(
            rows, model.config.vocab_size, device=ids.device, dtype=model.dtype
        )
        self.responses = ids.new_zeros(uniforms.shape)
        self.graph: torch.cuda.CUDAGraph | None = None

    def run(self, captured: bool) -> Tensor:
        """Responses to all prompts, (B, T)."""
        self._prefill()
        if captured and self.graph is None:
            self._capture()
            self._prefill()
        for _ in range(self.uniforms.shape[1]):
            self.graph.replay() if captured else self._step()
        return self.responses

    def _prefill(self) -> None:
        width = self.ids.shape[1]
        self.cache.reset()
        self.seen.zero_()
        self.seen[:, 0, 0, :width] = self.mask
        causal = torch.ones(width, self.total, dtype=torch.bool, device=self.ids.device).tril()
        self.positions.copy_(self.mask.sum(-1, keepdim=True))
        self.place.zero_()
        self._forward(self.ids, causal & self.seen, position_ids(self.mask))

    def _step(self) -> None:
        uniforms = self.uniforms.index_select(1, self.place).squeeze(1)
        tokens = sample_tokens(self.logits, 1.0, uniforms)[:, None]
        self.responses.index_copy_(1, self.place, tokens)
        self.seen.index_fill_(3, self.place + self.ids.shape[1], True)
        self.place.add_(1)
        self._forward(tokens, self.seen, self.positions)
        self.positions.add_(1)

    def _forward(self, ids: Tensor, allowed: Tensor, positions: Tensor) -> None:
        outputs = self.model(
            input_ids=ids,
            attention_mask=allowed,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{cache_name(self.model): self.cache},
        )
        self.logits.copy_(outputs.logits[:, -1])

    def _capture(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._step()
