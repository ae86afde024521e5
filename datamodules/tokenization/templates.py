"""Chat templates: which one a tokenizer brings, and how a conversation is written as one text."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers import PreTrainedTokenizerBase

# The library's own environment, so that a template writes here what it writes everywhere else. Its
# public way in, apply_chat_template, takes no clock.
from transformers.utils.chat_template_utils import _compile_jinja_template

from datamodules.records import DataError, Message, Prompt

SPECIAL_TOKENS = {
    "pad_token": "<|pad|>",
    "bos_token": "<|bos|>",
    "eos_token": "<|eos|>",
}
TURN_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>")
EMBEDDED_TEMPLATE = (
    "{{ bos_token }}"
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# For tokenizers that bring no chat template of their own, as those of base models do. A response
# begins on a line of its own, so that its first token needs no leading space.
PLAIN_TEMPLATE = (
    "{% for m in messages %}"
    "{{ {'system': 'System', 'user': 'User', 'assistant': 'Assistant'}[m['role']] }}:\n"
    "{{ m['content'] }}\n\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
CLOCK = "strftime_now"
# What every template gets, whatever the user passes to it.
ALWAYS = {"messages", "tools", "documents", "add_generation_prompt", CLOCK}


def midnight(now: datetime | None = None) -> datetime:
    """The beginning of a day: templates that ask for the time get one answer the whole day."""
    return datetime.combine((now or datetime.now()).date(), time())


class Refused(DataError):
    """A conversation that a chat template does not write, by its roles or by what is said."""


@dataclass(frozen=True)
class ChatOptions:
    """What a user may say of a model's chat template.

    `template` is the name of one of the tokenizer's templates, or a file with one; `arguments` are
    passed to the template; `date` is what it is told when it asks for the date or time.
    """

    template: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    date: datetime = field(default_factory=midnight)


class ChatTemplate:
    """Writes conversations as text. DataError if the template cannot be read, or if `arguments`
    has one that it does not know.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: ChatOptions):
        self.text: str = tokenizer.get_chat_template()
        self.options = options
        self._compiled = compiled(self.text)
        _check_arguments(self.text, options.arguments, set(tokenizer.special_tokens_map))
        tokens = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        self._given = tokens | dict(options.arguments) | {CLOCK: options.date.strftime}

    @property
    def asks_clock(self) -> bool:
        """Whether the template may write the date or the time."""
        return CLOCK in self.text

    def identity(self) -> dict[str, Any]:
        """Everything that shapes what the template writes."""
        date = self.options.date.isoformat() if self.asks_clock else None
        return {"template": self.text, "arguments": dict(self.options.arguments), "date": date}

    def render(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        """A conversation as text; with `generation_prompt`, up to where a response begins.

        Refused, a DataError, if the template does not write it.
        """
        try:
            return self._compiled.render(
                messages=[message._asdict() for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=generation_prompt,
                **self._given,
            )
        except Exception as error:  # whatever a program raises, for that is what a template is
            told = " / ".join(f"{m.role}: {m.content}" for m in messages)
            raise Refused(
                f"the chat template refuses a conversation ({_words(error)}): {told!r:.200}"
            ) from error

    def refused(self, prompts: Iterable[Prompt]) -> dict[Prompt, str]:
        """Those of the prompts that the template cannot write, each with what it says."""
        found = {}
        for prompt in prompts:
            try:
                self.render(prompt.messages, generation_prompt=True)
            except Refused as error:
                found[prompt] = str(error)
        return found


def compiled(text: str) -> Any:
    """A template as the library compiles it; DataError if it is none."""
    try:
        return _compile_jinja_template(text)
    except Exception as error:  # the parser's own, and Python's for what is nested too deep
        raise DataError(f"the chat template cannot be read: {_words(error)}") from error


def _words(error: Exception) -> str:
    """What an error says, in a few words; those of Python with their names."""
    words = " ".join(str(error).split())
    if isinstance(error, TemplateError):
        return (words or type(error).__name__)[:200]
    return f"{type(error).__name__}{words and ': '}{words:.200}"


def known(tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `arguments` that the tokenizer's template reads; DataError if it is none."""
    text = tokenizer.get_chat_template()
    compiled(text)
    return {k: arguments[k] for k in arguments.keys() & (_variables(text) - ALWAYS)}


def _check_arguments(text: str, arguments: Mapping[str, Any], tokens: set[str]) -> None:
    """What a template never looks at would change nothing, in silence."""
    variables = _variables(text) - ALWAYS
    if unused := [name for name in arguments if name not in variables]:
        raise DataError(
            f"model.template_arguments.{unused[0]}: the chat template has no such argument; it"
            f" knows {', '.join(sorted(variables - tokens)) or 'none'}"
        )


def _variables(text: str) -> set[str]:
    """The names that a template reads without giving them a value itself."""
    environment = ImmutableSandboxedEnvironment(
        extensions=["jinja2.ext.loopcontrols"], trim_blocks=True, lstrip_blocks=True
    )
    # A tag of the library's own, for which this environment has no extension.
    text = re.sub(r"{%(-?)\s*(end)?generation\s*(-?)%}", r"{#\1 \3#}", text)
    return meta.find_undeclared_variables(environment.parse(text)) - set(environment.globals)


def choose_template(
    tokenizer: PreTrainedTokenizerBase, chosen: str | None, place: str, *, has_option: bool = True
) -> None:
    """Give `tokenizer` the template to use: the one that is `chosen`, its own, or the plain one.

    DataError, which begins with `place`, if there is no such template, or several and no default.
    `has_option`: the user can choose with model.chat_template.
    """
    own = tokenizer.chat_template
    named = own if isinstance(own, dict) else {}
    names = ", ".join(sorted(named))
    if chosen is None:
        if own is None or own == {}:
            tokenizer.chat_template = PLAIN_TEMPLATE
        elif named and "default" not in named:
            advice = (
                f"say which with model.chat_template={sorted(named)[0]}"
                if has_option
                else "write the one to use into a file chat_template.jinja beside its tokenizer"
            )
            raise DataError(
                f"{place}: has several chat templates ({names}) and no default: {advice}"
            )
    elif chosen in named:
        tokenizer.chat_template = {**named, "default": named[chosen]}
    elif Path(chosen).is_file():
        try:
            tokenizer.chat_template = Path(chosen).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"model.chat_template={chosen}: is not UTF-8 ({error})") from error
    else:
        has = f"its templates are called {names}" if names else "its tokenizer has no named ones"
        raise DataError(
            f"model.chat_template={chosen}: no such file, and no such template of {place} ({has})"
        )


def keep_arguments(tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> None:
    """Make `arguments` the defaults of the tokenizer's template, so that a model that is saved with
    it is used as it was trained.
    """
    defaults = "".join(
        f"{{%- if {name} is not defined %}}{{%- set {name} = {_literal(value)} %}}{{%- endif %}}"
        for name, value in arguments.items()
    )
    if defaults:
        own = tokenizer.chat_template
        named = {"default": defaults + own["default"]} if isinstance(own, dict) else {}
        tokenizer.chat_template = {**own, **named} if named else defaults + own


def _literal(value: Any) -> str:
    """A value as templates write it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
