"""Chat templates: how a conversation is written as one text."""

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from datamodules.records import DataError, Prompt

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


def render(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, response: str | None = None) -> str:
    """A conversation as the tokenizer's template writes it: up to where the response begins, or
    with the response. DataError if the template refuses it.
    """
    messages = [m._asdict() for m in prompt.messages]
    if response is not None:
        messages.append({"role": "assistant", "content": response})
    try:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=response is None
        )
    except TemplateError as error:
        raise DataError(
            f"the chat template refuses a conversation ({error}): {prompt.text!r:.200}"
        ) from error
