import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from datamodules.records import DataError, Message, Prompt
from datamodules.tokenization.encoder import Encoder
from datamodules.tokenization.loading import load_tokenizer, train_tokenizer

TALK = Prompt((Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Bye")))
QUESTION = Prompt.from_text("Where is the Taj Mahal? I have been looking for it all day long.")
RESPONSE = "The Taj Mahal is in Agra."


def save_foreign_tokenizer(folder, **special):
    """A tokenizer of single bytes, without padding token and chat template."""
    alphabet = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<e>"]
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return load_tokenizer(save_foreign_tokenizer(tmp_path_factory.mktemp("t"), eos_token="<e>"))


@pytest.fixture(params=["embedded", "plain"])
def tokenizer(request, encoder, plain):
    return {"embedded": encoder.tokenizer, "plain": plain}[request.param]


@given(text=st.text())
@example(text="  two  spaces , and .punctuation 's\r\n\ttail  ")
@example(text="Write <|eos|> or <|assistant|> here")
@example(text="Grüße 你好 🇮🇳 é e\u0301 \u200d \x00")
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_any_text_round_trips(encoder, text):
    ids = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert encoder.tokenizer.decode(ids) == text


def test_training_stays_within_the_vocabulary_and_learns_from_the_texts():
    texts = ["the Brandenburg Gate in Berlin"] * 3
    small, large = train_tokenizer(texts, 270), train_tokenizer(texts, 300)
    assert len(small) <= 270 < len(large) <= 300
    count = [len(t(texts[0])["input_ids"]) for t in (large, small)]
    assert count[0] < count[1] < len(texts[0])


def test_a_saved_tokenizer_is_loaded_as_it_was(encoder, tmp_path):
    encoder.tokenizer.save_pretrained(tmp_path)
    loaded = Encoder(load_tokenizer(tmp_path), 32, 16)
    assert loaded.prompts([TALK, QUESTION]) == encoder.prompts([TALK, QUESTION])
    assert loaded.responses([RESPONSE]) == encoder.responses([RESPONSE])
    assert (loaded.pad_id, loaded.stop_id) == (encoder.pad_id, encoder.stop_id)
    assert loaded.pad_id != loaded.stop_id


def test_padding_falls_back_to_the_stop_token(plain):
    encoder = Encoder(plain, 8, 8)
    assert encoder.pad_id == encoder.stop_id == plain.convert_tokens_to_ids("<e>")


def test_a_tokenizer_without_stop_token_is_an_error(tmp_path):
    tokenizer = load_tokenizer(save_foreign_tokenizer(tmp_path))
    with pytest.raises(DataError, match="no token could end a response: there is no EOS token"):
        Encoder(tokenizer, 8, 8)
    assert Encoder(tokenizer, 8, 8, stops=[7]).stop_ids == (7,)


def test_a_tokenizer_keeps_its_own_chat_template(tmp_path):
    template = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}>"
    folder = save_foreign_tokenizer(tmp_path, eos_token="<e>", chat_template=template)
    encoder = Encoder(load_tokenizer(folder), 99, 8)
    assert encoder.decode(encoder.prompts([TALK])[0]) == "[user]Hi[assistant]Hello[user]Bye>"


def test_a_conversation_that_the_template_refuses_is_an_error(tmp_path):
    template = "{{ raise_exception('roles must alternate') }}"
    folder = save_foreign_tokenizer(tmp_path, eos_token="<e>", chat_template=template)
    with pytest.raises(DataError, match="roles must alternate"):
        Encoder(load_tokenizer(folder), 99, 8)


def test_a_conversation_that_the_template_refuses_is_named(tmp_path):
    template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ m['content'] }}<e>{% endfor %}"
    )
    folder = save_foreign_tokenizer(tmp_path, eos_token="<e>", chat_template=template)
    encoder = Encoder(load_tokenizer(folder), 99, 8)
    with pytest.raises(DataError, match=r"\(no system\).*Be brief.*Hi"):
        encoder.prompts([Prompt((Message("system", "Be brief"), *TALK.messages))])


def test_the_plain_template_ends_where_the_response_begins(plain):
    (ids,) = Encoder(plain, 99, 8).prompts([TALK])
    assert plain.decode(ids) == "User:\nHi\n\nAssistant:\nHello\n\nUser:\nBye\n\nAssistant:\n"


def test_a_prompt_begins_with_one_bos_and_ends_with_the_turn_of_the_assistant(encoder):
    (ids,) = encoder.prompts([TALK])
    tokenizer = encoder.tokenizer
    assert [i for i, t in enumerate(ids) if t == tokenizer.bos_token_id] == [0]
    assert tokenizer.convert_ids_to_tokens(ids[-1]) == "<|assistant|>"


def test_prompt_and_response_are_the_tokens_of_the_whole_conversation(tokenizer):
    encoder = Encoder(tokenizer, 999, 999)
    (prompt,), (response,) = encoder.prompts([QUESTION]), encoder.responses([RESPONSE])
    messages = [m._asdict() for m in QUESTION.messages]
    head = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    whole = tokenizer(head + RESPONSE + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
    assert prompt + response == whole
    answered = [*messages, {"role": "assistant", "content": RESPONSE}]
    seen = tokenizer.apply_chat_template(answered, tokenize=False)
    assert seen.startswith(tokenizer.decode(prompt) + encoder.decode(response))


@pytest.mark.parametrize("room", [1, 2, 9])
def test_truncation_keeps_the_end_of_the_words_and_all_that_the_template_writes(tokenizer, room):
    (empty,) = Encoder(tokenizer, 999, 16).prompts([Prompt.from_text("")])
    encoder = Encoder(tokenizer, len(empty) + room, 16)
    (cut,) = encoder.prompts([QUESTION])
    assert len(cut) == len(empty) + room
    kept = encoder.cut_prompts[QUESTION]
    assert [cut] == Encoder(tokenizer, 999, 16).prompts([kept])
    assert QUESTION.text.endswith(kept.text)
    assert 0 < len(kept.text) < len(QUESTION.text)
    assert encoder.counts["prompts truncated"] == 1


def test_a_limit_that_cannot_be_met_names_the_least_that_would_do(tokenizer):
    (empty,) = Encoder(tokenizer, 999, 16).prompts([Prompt.from_text("")])
    with pytest.raises(DataError, match=rf"max_prompt_tokens={len(empty) + 1} or more"):
        Encoder(tokenizer, len(empty), 16).prompts([QUESTION])


def test_a_prompt_of_just_the_limit_is_left_alone(tokenizer):
    (full,) = Encoder(tokenizer, 999, 16).prompts([QUESTION])
    encoder = Encoder(tokenizer, len(full), 16)
    assert encoder.prompts([QUESTION]) == [full]
    assert encoder.counts["prompts truncated"] == 0


def test_repeated_prompts_keep_their_places_and_count_once(tokenizer):
    encoder = Encoder(tokenizer, 50, 16)
    a, b, c = encoder.prompts([TALK, QUESTION, TALK])
    assert a == c != b
    assert encoder.counts["prompts"] == 2


@pytest.mark.parametrize("room", [-3, 0, 1, 5])
def test_responses_stop_unless_they_are_cut(tokenizer, room):
    tokens = tokenizer(RESPONSE, add_special_tokens=False)["input_ids"]
    encoder = Encoder(tokenizer, 32, len(tokens) + room)
    (ids,) = encoder.responses([RESPONSE])
    stops = room >= 1
    assert len(ids) <= encoder.max_response_tokens
    assert ids == ([*tokens, encoder.stop_id] if stops else tokens[: len(tokens) + room])
    assert encoder.counts["responses truncated"] == (not stops)
    assert encoder.counts["responses"] == 1


def test_decoding_a_response_drops_the_stop_token(tokenizer):
    encoder = Encoder(tokenizer, 32, 99)
    assert [encoder.decode(ids) for ids in encoder.responses([RESPONSE, ""])] == [RESPONSE, ""]


def test_the_name_of_the_stop_token_within_a_response_does_not_stop_it(tokenizer):
    encoder = Encoder(tokenizer, 32, 99)
    text = f"Write {tokenizer.eos_token} at the end."
    (ids,) = encoder.responses([text])
    assert [i for i, token in enumerate(ids) if token == encoder.stop_id] == [len(ids) - 1]
    assert encoder.decode(ids) == text


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_on_its_side_and_masked(tokenizer, side):
    encoder = Encoder(tokenizer, 8, 8)
    # A real token may have the id of the padding: only the mask tells.
    rows = [[7, encoder.pad_id, 9, 8], [encoder.pad_id], [5, 6]]
    ids, mask = encoder.pad(rows, side)
    assert ids.shape == mask.shape == (3, 4)
    assert [ids[i, mask[i]].tolist() for i in range(3)] == rows
    assert (ids[~mask] == encoder.pad_id).all()
    edge = -1 if side == "left" else 0
    assert mask[:, edge].all()
    steps = mask.long().diff()
    assert (steps >= 0).all() if side == "left" else (steps <= 0).all()


@pytest.mark.parametrize("stopped", [None, [True, True], [True, False], [False, False]])
def test_a_response_that_is_known_not_to_have_stopped_gets_no_stop_token(tokenizer, stopped):
    encoder = Encoder(tokenizer, 99, 99)
    plain = tokenizer([RESPONSE, "No."], add_special_tokens=False)["input_ids"]
    ends = stopped or [True, True]
    expected = [
        [*ids, encoder.stop_id] if end else ids for ids, end in zip(plain, ends, strict=True)
    ]
    assert encoder.responses([RESPONSE, "No."], stopped) == expected
    prompts = encoder.prompts([TALK, QUESTION])
    whole = encoder.conversations([TALK, QUESTION], [RESPONSE, "No."], stopped)
    assert whole == [p + r for p, r in zip(prompts, expected, strict=True)]


def test_prompts_that_were_cut_are_known(tokenizer):
    (full,) = Encoder(tokenizer, 999, 16).prompts([TALK])
    encoder = Encoder(tokenizer, len(full), 16)
    encoder.prompts([TALK, QUESTION])
    longer = len(Encoder(tokenizer, 999, 16).prompts([QUESTION])[0]) > len(full)
    assert set(encoder.cut_prompts) == ({QUESTION} if longer else set())
    tight = Encoder(tokenizer, len(full) - 1, 16)
    tight.prompts([TALK])
    # The earliest exchange goes as a whole, though one token would have been enough.
    assert tight.cut_prompts == {TALK: Prompt(TALK.messages[2:])}
