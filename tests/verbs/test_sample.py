"""`sweeper sample`: text from a model folder."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from small_trials import trial_of

from sweeper.errors import ConfigError
from sweeper.families import family_names, family_of
from sweeper.models.config import ModelConfig
from sweeper.models.model_file import write_model
from sweeper.networks.backbone import backbone_of
from sweeper.verbs.samples.sample import sample


def model_of(folder: Path, name: str) -> Path:
    """A model of random weights over eight ids, in contexts of 16."""
    trial = trial_of(name)
    backbone = backbone_of(trial, family_of(trial).needs)
    backbone.initialize(torch.Generator().manual_seed(0))
    config = ModelConfig(
        label=name,
        trial_id=trial.trial_id,
        trial=trial,
        step=10,
        tokens=1280,
        flops=1e9,
        budget_flops=None,
        bound_nats_per_token=2.0,
        bound_stderr_nats_per_token=0.1,
        bound_bits_per_byte=None,
        source="synthetic:markov?vocab=8&tokens=20000",
        tokenizer="ids",
        tokenizer_name="bytes",
    )
    written = write_model(folder, config, backbone.state_dict(), None)
    assert isinstance(written, Path)
    return written


def asked(*words: object) -> Result:
    result = CliRunner().invoke(sample, [*map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("name", family_names())
def test_every_family_writes_repeatable_text(tmp_path: Path, name: str) -> None:
    model = model_of(tmp_path, name)
    result = asked(model, "--n", 3, "--steps", 4, "--seed", 7)
    assert result.exit_code == 0
    texts = [line for line in result.stdout.splitlines() if not line.startswith("---")]
    assert [len(text.split()) for text in texts] == [16, 16, 16]
    assert "48 tokens" in result.stderr
    assert asked(model, "--n", 3, "--steps", 4, "--seed", 7).stdout == result.stdout
    assert asked(model, "--n", 3, "--steps", 4, "--seed", 8).stdout != result.stdout


def test_json_holds_texts_ids_and_how_they_were_made(tmp_path: Path) -> None:
    model = model_of(tmp_path, "masked")
    answer = json.loads(asked(model, "--prompt", "3 1", "--length", 6, "--n", 2, "--json").stdout)
    assert answer["prefix_tokens"] == 2
    assert answer["n_steps"] == 4  # one for each new token
    for made in answer["samples"]:
        assert made["ids"][:2] == [3, 1]
        assert len(made["ids"]) == 6
        assert made["text"] == " ".join(map(str, made["ids"]))


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("uniform", ["--prompt", "3 1"], "train with prefix_share"),
        ("ar", ["--length", 17], "at most 16, which the model was trained on"),
        ("ar", ["--prompt", "1 2 3", "--length", 3], "at least one more than the prompt"),
        ("ar", ["--prompt", "8"], "token 8 is not of this model"),
        ("ar", ["--sampler", "block"], "expected ancestral"),
        ("ar", ["--device", "nonsense"], "device 'nonsense' cannot be used"),
        ("ar", ["--n", 0], "at least one"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, name: str, words: list[object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        asked(model_of(tmp_path, name), *words)
