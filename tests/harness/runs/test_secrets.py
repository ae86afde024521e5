"""What is kept of a config: nothing secret, by name or from the environment."""

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from harness.runs.secrets import HIDDEN, hide_overrides, is_secret, kept, without_secrets

CONF = str(Path(__file__).parents[3] / "conf")
SECRETS = """
my_token token MY_TOKEN hf.token hfToken HF_TOKEN hftoken api_key hf.api_key apiKey APIKEY
OPENAI_API_KEY password db.password userPassword mypassword passwd client_secret clientSecret
CLIENT-SECRET secrets.hf authorization Authorization auth headers.X-Auth-Token my_token_2
aws_access_key_id aws_secret_access_key private_key credentials wandb_key hf_tokens
"""
OTHERS = """
max_prompt_tokens micro_batch_tokens tokens n_tokens eos_token pad_token_id image_token_index
stop_token tokenizer key keys monkey author authors tokens_per_second
"""


@pytest.mark.parametrize("name", SECRETS.split())
def test_names_of_secrets(name):
    assert is_secret(name)


@pytest.mark.parametrize("name", OTHERS.split())
def test_names_of_other_things(name):
    assert not is_secret(name)


def all_names(config, prefix=""):
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from all_names(value, f"{prefix}{key}.")


def test_no_option_of_the_project_is_taken_for_a_secret():
    with initialize_config_dir(CONF, version_base="1.3"):
        configs = [
            compose(
                "config", [f"data={data}", f"reward={reward}", f"model={model}", "adapter=lora"]
            )
            for data in ("files", "hh", "landmarks")
            for reward in ("learned", "checkpoint", "combined")
            for model in ("llama", "pretrained")
        ]
    names = {name for cfg in configs for name in all_names(OmegaConf.to_container(cfg))}
    assert len(names) > 100
    assert [name for name in names if is_secret(name)] == []


def test_values_of_the_environment_stay_unresolved_however_they_are_reached(monkeypatch):
    monkeypatch.setenv("PLACE", "/home/of/somebody")
    cfg = OmegaConf.create(
        {
            "direct": "${oc.env:PLACE}",
            "within": "${oc.env:PLACE}/pairs.jsonl",
            "by": {"node": "${direct}", "relative": "${.node}", "list": ["${within}", 1]},
            "select": "${oc.select:by.node}",
            "decoded": "${oc.decode:${oc.env:NUMBER,3}}",
            "plain": 3,
            "other": "${plain}",
            "section": "${by}",
        }
    )
    written = OmegaConf.to_container(cfg)
    written["other"] = 3
    written["section"] = written["by"]
    assert kept(cfg) == written


def test_a_models_name_and_rates_are_told_though_its_folder_is_not(monkeypatch):
    monkeypatch.setenv("MODELS", "/mnt/secret place")
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("config", ["model=pretrained", "model.pretrained=${oc.env:MODELS}/mine"])
    config = kept(cfg)
    assert config["model"]["pretrained"] == "${oc.env:MODELS}/mine"
    assert config["model"]["name"] == "mine"
    assert config["algo"]["optimizer"]["lr"] is None
    assert "secret place" not in json.dumps(config)


def test_without_secrets_and_environment_nothing_is_changed(monkeypatch):
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("config", ["logger=none", "data=files", "data.path='a=b.jsonl'"])
    assert kept(cfg) == OmegaConf.to_container(cfg, resolve=True)


def test_secret_names_lose_their_values_and_so_do_copies(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    cfg = OmegaConf.create(
        {
            "my_token": "abcdef",
            "number_token": 123456,
            "empty_token": None,
            "hf": {"api_key": "${oc.env:HF_TOKEN}", "other": "${my_token}"},
            "header": "Bearer ${hf.api_key}",
            "credentials": {"user": "somebody", "key": ["k1234"]},
            "copies": ["a=abcdef", "+my_token=qwerty", "abcdefg"],
            "default": "${oc.env:OTHER_TOKEN,hf_98765}",
        }
    )
    found = kept(cfg)
    assert found == {
        "my_token": HIDDEN,
        "number_token": HIDDEN,
        "empty_token": None,
        "hf": {"api_key": HIDDEN, "other": "${my_token}"},
        "header": "Bearer ${hf.api_key}",
        "credentials": HIDDEN,
        "copies": [f"a={HIDDEN}", f"+my_token='{HIDDEN}'", "abcdefg"],
        "default": "${oc.env:OTHER_TOKEN," + HIDDEN + "}",
    }


def test_texts_lose_secrets_and_nothing_else(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    cfg = OmegaConf.create({"my_token": "a'b\\c", "x": "${oc.env:HF_TOKEN}", "pin_token": "12"})
    text = f"12 of {'hf_0123456789'!r}: {cfg.my_token} {cfg.my_token!r} xhf_0123456789"
    assert without_secrets(text, cfg) == f'12 of {HIDDEN!r}: {HIDDEN} "{HIDDEN}" xhf_0123456789'


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("+my_token=abc", f"+my_token='{HIDDEN}'"),
        ("++hf.api_key='a=b'", f"++hf.api_key='{HIDDEN}'"),
        ("+x={my_token: abc, y: 1}", f"+x={{my_token: '{HIDDEN}', y: 1}}"),
        ("+x=[{password:'a b'},2]", f"+x=[{{password:'{HIDDEN}'}},2]"),
        ("+my_token=null", "+my_token=null"),
        ("~my_token", "~my_token"),
        ("algo.beta=0.1", "algo.beta=0.1"),
        ("data.columns={prompt: token}", "data.columns={prompt: token}"),
        ("+x=${oc.env:HF_TOKEN}", "+x=${oc.env:HF_TOKEN}"),
        ("+x=${oc.env:HF_TOKEN,abc}", "+x=${oc.env:HF_TOKEN," + HIDDEN + "}"),
        ("algo.beta=tag(log,interval(1,2))", "algo.beta=tag(log,interval(1,2))"),
    ],
)
def test_overrides(typed, told):
    assert hide_overrides([typed]) == [told]
    OverridesParser.create().parse_overrides([told])
