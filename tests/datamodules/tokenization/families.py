"""Families of chat templates, each with a small tokenizer of its kind and what is right for it.

The templates are written afresh after the format that each family uses: the markers are theirs, the
texts between are our own. The right values are written down by hand, as names of tokens.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from datamodules.tokenization.loading import load_tokenizer
from tests.datamodules.tokenization.small_tokenizers import (
    byte_level,
    sentencepiece_like,
    unigram,
)


def as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True, repr=False, eq=False)
class Family:
    """A tokenizer with its template, and what must come out of it.

    An answer is taught as `lead` + `written(answer)` + `tail` + `stop`: what the template writes
    between its generation prompt and the answer, the answer itself, and what ends it.
    """

    name: str
    build: Callable[[], PreTrainedTokenizerFast]
    template: str | None  # None: the project's plain one
    stop: str
    stops: frozenset[str]
    pad: str
    config_stops: tuple[str, ...] = ()  # of generation_config
    bos: str | None = None  # what the tokenizer puts first and the template does not write
    arguments: dict = field(default_factory=dict)
    lead: str = ""
    written: Callable[[str], str] = as_it_is
    tail: str = ""
    after: str = ""  # the last things of a conversation whose answers end without `stop`
    unwritten: str = ""  # the end of the generation prompt that full conversations do not have
    crosses: str = ""  # why tokens may reach over the end of the prompt, where they do
    swallows: bool = False  # the tokenizer drops the spaces at the beginning of an answer
    system: bool = True  # False: the template refuses a system turn
    alternates: bool = False  # the template refuses two turns of the user in a row
    date_format: str = ""  # of the date that the template writes, if it writes one
    controls: tuple[str, ...] = ()  # not special, but no content may make them either
    unsplittable: tuple[str, ...] = ()  # special, and pieces of the model's own as well
    thoughts: tuple[tuple[str, str], ...] = ()  # answers with reasoning, and how they are taught

    def __repr__(self) -> str:
        return self.name

    @cache  # noqa: B019  (families live as long as the tests)
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """As it is loaded from a folder."""
        built = self.build()
        if self.template is not None:
            built.chat_template = self.template
        with tempfile.TemporaryDirectory() as folder:
            built.save_pretrained(folder)
            return load_tokenizer(folder)


WHITE = "an answer that begins with white space shares a token with the line feed before it"
NOT_SPECIAL = {"special": False, "normalized": False}


def without_feeds_before(text: str) -> str:
    return text.lstrip("\n")


# --- ChatML and its relatives -------------------------------------------------------------------

CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML_TURNS = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# A system turn of the template's own, unless the conversation brings one.
QWEN2 = (
    "{% if messages[0].role != 'system' %}"
    "{{ '<|im_start|>system\\nYou answer kindly and briefly.<|im_end|>\\n' }}"
    "{% endif %}" + CHATML_TURNS
)
SMOLLM2 = QWEN2.replace("kindly and briefly", "as a small model can")
# Answers to the last question come with their reasoning, were it empty; earlier ones without.
QWEN3 = (
    "{% set last = namespace(user=0) %}"
    "{% for m in messages %}"
    "{% if m.role == 'user' %}{% set last.user = loop.index0 %}{% endif %}"
    "{% endfor %}"
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.role == 'assistant' %}"
    "{% set parts = m.content.split('</think>') %}"
    "{% set thought = parts[0].split('<think>')[-1] if parts | length > 1 else '' %}"
    "{% if loop.index0 > last.user %}"
    "{{ '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + parts[-1].lstrip('\\n') }}"
    "{% else %}{{ parts[-1].lstrip('\\n') }}{% endif %}"
    "{% else %}{{ m.content }}{% endif %}"
    "{{ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}"
    "{% endif %}{% endif %}"
)
EMPTY_THOUGHT = "<think>\n\n</think>\n\n"
SMOLLM3 = (
    "{% set ns = namespace(text='Be brief.') %}"
    "{% if messages[0].role == 'system' %}{% set ns.text = messages[0].content %}{% endif %}"
    "{{ '<|im_start|>system\\n## About\\n\\nToday: ' + strftime_now('%d %B %Y') }}"
    "{{ '\\n\\n## Wishes\\n\\n' + ns.text + '<|im_end|>\\n' }}"
    "{% for m in messages %}{% if m.role != 'system' %}"
    "{% set text = m.content.lstrip('\\n') if m.role == 'assistant' else m.content %}"
    "{{ '<|im_start|>' + m.role + '\\n' + text + '<|im_end|>\\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def qwen2(eos: str) -> PreTrainedTokenizerFast:
    return byte_level(CHATML_TOKENS, nfc=True, eos_token=eos, pad_token="<|endoftext|>")


def qwen3() -> PreTrainedTokenizerFast:
    thinking = [AddedToken(token, **NOT_SPECIAL) for token in ("<think>", "</think>")]
    added = [*CHATML_TOKENS, *thinking]
    return byte_level(added, nfc=True, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def smollm2() -> PreTrainedTokenizerFast:
    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    return byte_level(CHATML_TOKENS, split="gpt2", **names)


QWEN_STOPS = frozenset({"<|im_end|>", "<|endoftext|>"})
CHATML = [
    Family(
        name="qwen2.5",
        build=lambda: qwen2("<|im_end|>"),
        template=QWEN2,
        stop="<|im_end|>",
        stops=QWEN_STOPS,
        config_stops=("<|im_end|>", "<|endoftext|>"),
        pad="<|endoftext|>",
        crosses=WHITE,
    ),
    Family(
        name="qwen2.5_base",
        build=lambda: qwen2("<|endoftext|>"),
        template=QWEN2,
        stop="<|im_end|>",
        stops=QWEN_STOPS,
        config_stops=("<|endoftext|>",),
        pad="<|endoftext|>",
        crosses=WHITE,
    ),
    Family(
        name="qwen3",
        build=qwen3,
        template=QWEN3,
        stop="<|im_end|>",
        stops=QWEN_STOPS,
        config_stops=("<|im_end|>", "<|endoftext|>"),
        pad="<|endoftext|>",
        lead=EMPTY_THOUGHT,
        written=without_feeds_before,
        thoughts=(
            ("<think>\nIt is far.\n</think>\n\nNo.", "<think>\nIt is far.\n</think>\n\nNo."),
            ("<think>Far.</think>No.", "<think>\nFar.\n</think>\n\nNo."),
        ),
    ),
    Family(
        name="qwen3_without_thinking",
        build=qwen3,
        template=QWEN3,
        arguments={"enable_thinking": False},
        stop="<|im_end|>",
        stops=QWEN_STOPS,
        config_stops=("<|im_end|>", "<|endoftext|>"),
        pad="<|endoftext|>",
        written=without_feeds_before,
    ),
    Family(
        name="smollm2",
        build=smollm2,
        template=SMOLLM2,
        stop="<|im_end|>",
        stops=frozenset({"<|im_end|>"}),
        config_stops=("<|im_end|>",),
        pad="<|im_end|>",
    ),
    Family(
        name="smollm3",
        build=lambda: byte_level(CHATML_TOKENS, eos_token="<|im_end|>", pad_token="<|im_end|>"),
        template=SMOLLM3,
        stop="<|im_end|>",
        stops=frozenset({"<|im_end|>"}),
        pad="<|im_end|>",
        written=without_feeds_before,
        date_format="%d %B %Y",
    ),
]

# --- Llama --------------------------------------------------------------------------------------

LLAMA_NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
LLAMA_TOKENS = ("<unk>", "<s>", "</s>")
ALTERNATION = (
    "{% for m in turns %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant take turns, and the user begins') }}"
    "{% endif %}{% endfor %}"
)
LLAMA2 = (
    "{% set has_system = messages[0].role == 'system' %}"
    "{% set turns = messages[1:] if has_system else messages %}"
    + ALTERNATION
    + "{% for m in turns %}"
    "{% if m.role == 'user' %}"
    "{% set before = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n'"
    " if has_system and loop.first else '' %}"
    "{{ bos_token + '[INST] ' + (before + m.content).strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
LLAMA3_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
LLAMA3_TURN = (
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}"
    "{{ m.content | trim }}{{ '<|eot_id|>' }}"
)
LLAMA3_PROMPT = (
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
    "{% endif %}"
)
LLAMA3 = "{{ bos_token }}{% for m in messages %}" + LLAMA3_TURN + "{% endfor %}" + LLAMA3_PROMPT
LLAMA32 = (
    "{{ bos_token }}"
    "{% set today = date_string if date_string is defined else strftime_now('%d %b %Y') %}"
    "{% set has_system = messages[0].role == 'system' %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\\n\\nDate of today: ' + today + '\\n\\n' }}"
    "{{ messages[0].content | trim if has_system else '' }}{{ '<|eot_id|>' }}"
    "{% for m in (messages[1:] if has_system else messages) %}" + LLAMA3_TURN + "{% endfor %}"
    "" + LLAMA3_PROMPT
)


def llama2(**names) -> PreTrainedTokenizerFast:
    return sentencepiece_like(
        LLAMA_TOKENS, prefix="every", puts_first="<s>", **{**LLAMA_NAMES, **names}
    )


def llama3(eos: str, **names) -> PreTrainedTokenizerFast:
    bos = "<|begin_of_text|>"
    return byte_level(LLAMA3_TOKENS, puts_first=bos, bos_token=bos, eos_token=eos, **names)


LLAMA = [
    Family(
        name="llama2",
        build=llama2,
        template=LLAMA2,
        stop="</s>",
        stops=frozenset({"</s>"}),
        config_stops=("</s>",),
        pad="</s>",
        lead=" ",
        written=str.strip,
        tail=" ",
        alternates=True,
    ),
    Family(
        name="llama3",
        build=lambda: llama3("<|end_of_text|>"),
        template=LLAMA3,
        stop="<|eot_id|>",
        stops=frozenset({"<|eot_id|>", "<|end_of_text|>"}),
        config_stops=("<|end_of_text|>",),
        pad="<|end_of_text|>",
        written=str.strip,
    ),
    Family(
        name="llama3.2",
        build=lambda: llama3("<|eot_id|>", pad_token="<|end_of_text|>"),
        template=LLAMA32,
        stop="<|eot_id|>",
        stops=frozenset({"<|eot_id|>", "<|end_of_text|>"}),
        config_stops=("<|end_of_text|>", "<|eot_id|>"),
        pad="<|end_of_text|>",
        written=str.strip,
        date_format="%d %b %Y",
    ),
    Family(
        name="llama3.2_with_a_date_given",
        build=lambda: llama3("<|eot_id|>", pad_token="<|end_of_text|>"),
        template=LLAMA32,
        arguments={"date_string": "a day in May"},
        stop="<|eot_id|>",
        stops=frozenset({"<|eot_id|>"}),
        pad="<|end_of_text|>",
        written=str.strip,
    ),
]

# --- Mistral, Zephyr, Vicuna: Llama's kind of tokenizer -----------------------------------------

# The first release: markers are text, and nothing is written between them and the answer.
MISTRAL1 = (
    "{% set turns = messages %}{{ bos_token }}" + ALTERNATION + "{% for m in messages %}"
    "{{ '[INST] ' + m.content + ' [/INST]' if m.role == 'user' else m.content + eos_token }}"
    "{% endfor %}"
)
# The third: markers are tokens, and an answer begins with a space.
MISTRAL3 = MISTRAL1.replace(" [/INST]", "[/INST]").replace("else m", "else ' ' + m")
ZEPHYR = (
    "{% for m in messages %}"
    "{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
VICUNA = (
    "{% set has_system = messages[0].role == 'system' %}"
    "{{ messages[0].content if has_system else 'A person talks with a patient machine.' }}"
    "{{ ' ' }}"
    "{% for m in messages %}"
    "{% if m.role == 'user' %}{{ 'USER: ' + m.content + ' ' }}"
    "{% elif m.role == 'assistant' %}{{ 'ASSISTANT: ' + m.content + eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def mistral(*more: str, **names) -> PreTrainedTokenizerFast:
    return sentencepiece_like([*LLAMA_TOKENS, *more], puts_first="<s>", **{**LLAMA_NAMES, **names})


MISTRAL = [
    Family(
        name="mistral_v1",
        build=mistral,
        template=MISTRAL1,
        stop="</s>",
        stops=frozenset({"</s>"}),
        config_stops=("</s>",),
        pad="</s>",
        system=False,
        alternates=True,
    ),
    Family(
        name="mistral_v3",
        build=lambda: mistral("[INST]", "[/INST]"),
        template=MISTRAL3,
        stop="</s>",
        stops=frozenset({"</s>"}),
        config_stops=("</s>",),
        pad="</s>",
        lead=" ",
        system=False,
        alternates=True,
    ),
    Family(
        name="zephyr",
        build=lambda: mistral(pad_token="</s>"),
        template=ZEPHYR,
        stop="</s>",
        stops=frozenset({"</s>"}),
        config_stops=("</s>",),
        pad="</s>",
        bos="<s>",
        lead="\n",
    ),
    Family(
        name="zephyr_of_bytes",
        build=lambda: byte_level(("<|endoftext|>",), eos_token="<|endoftext|>"),
        template=ZEPHYR,
        stop="<|endoftext|>",
        stops=frozenset({"<|endoftext|>"}),
        pad="<|endoftext|>",
        lead="\n",
        crosses="`|>` and the line feed that the generation prompt lacks are one token",
    ),
    Family(
        name="vicuna",
        build=lambda: llama2(pad_token="<unk>"),
        template=VICUNA,
        stop="</s>",
        stops=frozenset({"</s>"}),
        config_stops=("</s>",),
        pad="<unk>",
        bos="<s>",
        lead=" ",
    ),
]

# --- Gemma, Phi-3 -------------------------------------------------------------------------------

GEMMA_TURNS = (
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}"
    "{{ before + m.content | trim + '<end_of_turn>\\n' }}"
)
GEMMA_PROMPT = "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
GEMMA2 = (
    "{{ bos_token }}{% set turns = messages %}{% set before = '' %}"
    "{% if messages[0].role == 'system' %}"
    "{{ raise_exception('this model knows no system turn') }}"
    "{% endif %}"
    + ALTERNATION
    + "{% for m in messages %}"
    + GEMMA_TURNS
    + "{% endfor %}"
    + GEMMA_PROMPT
)
GEMMA3 = (
    "{{ bos_token }}"
    "{% set has_system = messages[0].role == 'system' %}"
    "{% set turns = messages[1:] if has_system else messages %}"
    + ALTERNATION
    + "{% for m in turns %}"
    "{% set before = messages[0].content + '\\n\\n' if has_system and loop.first else '' %}"
    + GEMMA_TURNS
    + "{% endfor %}"
    + GEMMA_PROMPT
)
PHI3 = (
    "{% for m in messages %}"
    "{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}"
    "{% endfor %}"
    "{{ '<|assistant|>\\n' if add_generation_prompt else eos_token }}"
)


def gemma() -> PreTrainedTokenizerFast:
    return sentencepiece_like(
        ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        prefix="never",
        puts_first="<bos>",
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    )


def phi3() -> PreTrainedTokenizerFast:
    """Its tokens of turns swallow the white space behind them."""
    turns = [
        AddedToken(f"<|{name}|>", special=True, normalized=False, rstrip=True)
        for name in ("assistant", "system", "end", "user")
    ]
    names = LLAMA_NAMES | {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    added = [*LLAMA_TOKENS, "<|endoftext|>", *turns]
    return sentencepiece_like(added, prefix="every", **names)


GEMMA_AND_PHI = [
    Family(
        name="gemma2",
        build=gemma,
        template=GEMMA2,
        stop="<end_of_turn>",
        stops=frozenset({"<eos>", "<end_of_turn>"}),
        config_stops=("<eos>", "<end_of_turn>"),
        pad="<pad>",
        written=str.strip,
        system=False,
        alternates=True,
    ),
    Family(
        name="gemma3",
        build=gemma,
        template=GEMMA3,
        stop="<end_of_turn>",
        stops=frozenset({"<eos>", "<end_of_turn>"}),
        config_stops=("<eos>",),
        pad="<pad>",
        written=str.strip,
        alternates=True,
    ),
    Family(
        name="phi3",
        build=phi3,
        template=PHI3,
        stop="<|end|>",
        stops=frozenset({"<|endoftext|>", "<|end|>", "<|assistant|>"}),
        config_stops=("<|endoftext|>", "<|assistant|>", "<|end|>"),
        pad="<|endoftext|>",
        swallows=True,
    ),
]

# --- DeepSeek, OLMo 2, Granite, harmony: byte-level, each with markers of its own ---------------

DEEPSEEK_BOS, DEEPSEEK_EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
DEEPSEEK_ROLES = ("<｜User｜>", "<｜Assistant｜>")
DEEPSEEK = (
    "{{ bos_token }}"
    "{% for m in messages %}"
    "{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}"
    "{% elif m.role == 'assistant' %}{{ '<｜Assistant｜>' + m.content + eos_token }}"
    "{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜>{% endif %}"
)
# It thinks before it answers, and full conversations hold no thoughts.
R1 = DEEPSEEK.replace("m.content + eos_token", "m.content.split('</think>')[-1] + eos_token")
R1 = R1.replace("<｜Assistant｜>{% endif %}", "{{ '<｜Assistant｜><think>\\n' }}{% endif %}")
OLMO2 = (
    "{{ bos_token }}"
    "{% for m in messages %}"
    "{{ '<|' + m.role + '|>\\n' + m.content }}"
    "{{ eos_token if m.role == 'assistant' else '' }}"
    "{{ '' if loop.last and m.role == 'assistant' else '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
GRANITE = (
    "{% if messages[0].role != 'system' %}"
    "{{ '<|start_of_role|>system<|end_of_role|>It is ' + strftime_now('%B %d, %Y') }}"
    "{{ '. You help with work.<|end_of_text|>\\n' }}"
    "{% endif %}"
    "{% for m in messages %}"
    "{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)
# A turn ends with <|end|> where another follows; the last answer ends with <|return|>.
HARMONY = (
    "{{ '<|start|>system<|message|>Today: ' + strftime_now('%Y-%m-%d') }}"
    "{{ '\\nChannels: analysis, final<|end|>' }}"
    "{% for m in messages %}"
    "{% if m.role == 'assistant' %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
    "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}"
    "{% elif m.role == 'system' %}"
    "{{ '<|start|>developer<|message|># Wishes\\n\\n' + m.content + '<|end|>' }}"
    "{% else %}{{ '<|start|>user<|message|>' + m.content + '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


def deepseek(roles_are_special: bool) -> PreTrainedTokenizerFast:
    roles = DEEPSEEK_ROLES
    if not roles_are_special:
        others = (*DEEPSEEK_ROLES, "<think>", "</think>")
        roles = [AddedToken(token, **NOT_SPECIAL) for token in others]
    names = {"bos_token": DEEPSEEK_BOS, "eos_token": DEEPSEEK_EOS, "pad_token": DEEPSEEK_EOS}
    return byte_level([DEEPSEEK_BOS, DEEPSEEK_EOS, *roles], puts_first=DEEPSEEK_BOS, **names)


def olmo2() -> PreTrainedTokenizerFast:
    names = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
    return byte_level(("<|endoftext|>", "<|pad|>"), **names)


def granite() -> PreTrainedTokenizerFast:
    names = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|end_of_text|>")
    return byte_level(("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"), **names)


def harmony() -> PreTrainedTokenizerFast:
    turns = ("start", "message", "channel", "end", "return", "call", "startoftext", "endoftext")
    names = {"eos_token": "<|return|>", "pad_token": "<|endoftext|>"}
    return byte_level([f"<|{name}|>" for name in turns], bos_token="<|startoftext|>", **names)


OTHERS = [
    Family(
        name="deepseek",
        build=lambda: deepseek(roles_are_special=True),
        template=DEEPSEEK,
        stop=DEEPSEEK_EOS,
        stops=frozenset({DEEPSEEK_EOS}),
        config_stops=(DEEPSEEK_EOS,),
        pad=DEEPSEEK_EOS,
    ),
    Family(
        name="deepseek_r1",
        build=lambda: deepseek(roles_are_special=False),
        template=R1,
        stop=DEEPSEEK_EOS,
        stops=frozenset({DEEPSEEK_EOS}),
        config_stops=(DEEPSEEK_EOS,),
        pad=DEEPSEEK_EOS,
        unwritten="<think>\n",
        controls=DEEPSEEK_ROLES,
    ),
    Family(
        name="olmo2",
        build=olmo2,
        template=OLMO2,
        stop="<|endoftext|>",
        stops=frozenset({"<|endoftext|>"}),
        config_stops=("<|endoftext|>",),
        pad="<|pad|>",
        crosses=WHITE,
    ),
    Family(
        name="granite",
        build=granite,
        template=GRANITE,
        stop="<|end_of_text|>",
        stops=frozenset({"<|end_of_text|>"}),
        config_stops=("<|end_of_text|>",),
        pad="<|end_of_text|>",
        date_format="%B %d, %Y",
    ),
    Family(
        name="harmony",
        build=harmony,
        template=HARMONY,
        stop="<|return|>",
        stops=frozenset({"<|return|>", "<|endoftext|>", "<|call|>"}),
        config_stops=("<|return|>", "<|endoftext|>", "<|call|>"),
        pad="<|endoftext|>",
        lead="<|channel|>final<|message|>",
        date_format="%Y-%m-%d",
    ),
]

# --- Ports and base models ----------------------------------------------------------------------

BOS_EVERYWHERE = (
    "{% for m in messages %}"
    "{{ bos_token + '### ' + m.role + '\\n' + m.content + eos_token + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ bos_token + '### assistant\\n' }}{% endif %}"
)
PAD_WRITTEN = (
    "{% for m in messages %}"
    "{{ m.role + '<|sep|>' + m.content + eos_token + '<|sep|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}assistant<|sep|>{% endif %}"
)


def base_llama3() -> PreTrainedTokenizerFast:
    return llama3("<|end_of_text|>")


ODD_AND_BASE = [
    Family(
        name="bos_before_every_message",
        build=llama2,
        template=BOS_EVERYWHERE,
        stop="</s>",
        stops=frozenset({"</s>"}),
        pad="</s>",
    ),
    Family(
        name="pad_that_the_template_writes",
        build=lambda: byte_level(("<|sep|>", "<|eos|>"), eos_token="<|eos|>", pad_token="<|sep|>"),
        template=PAD_WRITTEN,
        stop="<|eos|>",
        stops=frozenset({"<|eos|>"}),
        pad="<|sep|>",
    ),
    Family(
        name="base_llama2",
        build=llama2,
        template=None,
        stop="</s>",
        stops=frozenset({"</s>"}),
        config_stops=("</s>",),
        pad="</s>",
        bos="<s>",
        after="\n\n",
    ),
    Family(
        name="base_llama3",
        build=base_llama3,
        template=None,
        stop="<|end_of_text|>",
        stops=frozenset({"<|end_of_text|>"}),
        pad="<|end_of_text|>",
        bos="<|begin_of_text|>",
        after="\n\n",
        crosses=WHITE,
    ),
    Family(
        name="base_with_bos_and_eos",
        build=lambda: mistral(puts_last="</s>"),
        template=None,
        stop="</s>",
        stops=frozenset({"</s>"}),
        pad="</s>",
        bos="<s>",
        after="\n\n",
    ),
    Family(
        name="base_gpt2",
        build=lambda: byte_level(
            ("<|endoftext|>",),
            split="gpt2",
            **dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"),
        ),
        template=None,
        stop="<|endoftext|>",
        stops=frozenset({"<|endoftext|>"}),
        config_stops=("<|endoftext|>",),
        pad="<|endoftext|>",
        after="\n\n",
    ),
    # Like OPT: the token that ends a text also begins it.
    Family(
        name="base_opt",
        build=lambda: byte_level(
            ("</s>", "<pad>"),
            split="gpt2",
            puts_first="</s>",
            **{"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>"},
        ),
        template=None,
        stop="</s>",
        stops=frozenset({"</s>"}),
        config_stops=("</s>",),
        pad="<pad>",
        bos="</s>",
        after="\n\n",
    ),
    # Like XGLM: what the tokenizer puts first is not what it calls its BOS.
    Family(
        name="base_xglm",
        build=lambda: unigram(
            ("<s>", "</s>", "<pad>"), puts_first="</s>", pad_token="<pad>", **LLAMA_NAMES
        ),
        unsplittable=("<unk>",),
        template=None,
        stop="</s>",
        stops=frozenset({"</s>"}),
        config_stops=("</s>",),
        pad="<pad>",
        bos="</s>",
        after="\n\n",
    ),
]

FAMILIES = [*CHATML, *LLAMA, *MISTRAL, *GEMMA_AND_PHI, *OTHERS, *ODD_AND_BASE]
