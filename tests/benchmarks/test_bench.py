"""`sweeper bench`: the local tasks of lm-eval, end to end, on trained models."""

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch.nn import functional
from trained import trained_folder

import sweeper
from sweeper.benchmarks.likelihoods import Option, Scorer
from sweeper.errors import ConfigError, MissingPackage
from sweeper.trials.ladder import Rung
from sweeper.verbs.samples.bench import bench

TASKS = Path(sweeper.__file__).parent / "benchmarks" / "tasks"
SEQ_LEN = 64

needs_lm_eval = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None,
    reason="lm-eval is not installed: pip install -c constraints.txt 'sweeper[bench]'",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of models trained for seconds on the sources of this package."""
    folder = tmp_path_factory.mktemp("models")
    sources = sorted(Path(sweeper.__file__).parent.glob("*/*.py"))
    text = "".join(path.read_text(encoding="utf-8") for path in sources[:40])
    (folder / "text.txt").write_text(text)
    return {
        name: trained_folder(
            folder / name,
            name,
            f"path:{folder}/text.txt",
            seq_len=SEQ_LEN,
            n_steps=n_steps,
            rung=Rung(2, 32, 2),
        )
        for name, n_steps in {"ar": 60, "masked": 400, "uniform": 2}.items()
    }


def asked(*words: object) -> Result:
    result = CliRunner().invoke(bench, [*map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def results(*words: object) -> dict[tuple[str, str], dict[str, Any]]:
    answer = json.loads(asked(*words, "--json").stdout)
    return {(row["task"], row["metric"]): row for row in answer["results"]}


def documents(task: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (TASKS / f"{task}.jsonl").read_text().splitlines()]


def log_p(model: Any, ids: bytes) -> torch.Tensor:
    """Of each byte after those before it, by plain softmax."""
    inputs_1L = torch.tensor([[256, *ids[:-1]]])
    logits_1LV = model.network(inputs_1L, torch.zeros(1))
    return -functional.cross_entropy(logits_1LV[0], torch.tensor([*ids]), reduction="none")


@needs_lm_eval
@pytest.mark.slow
def test_ar_has_the_scores_of_a_direct_computation(models: dict[str, Path]) -> None:
    found, model = results(models["ar"]), sweeper.load_model(models["ar"])
    n_right = 0
    for doc in documents("sweeper_completions"):
        context = doc["context"].encode()
        sums = [
            log_p(model, context + choice.encode())[len(context.rstrip(b" ")) :].sum().item()
            for choice in doc["choices"]
        ]
        n_right += max(range(4), key=sums.__getitem__) == doc["answer"]
    row = found["sweeper_completions", "acc"]
    n_documents = len(documents("sweeper_completions"))
    assert row["value"] == pytest.approx(n_right / n_documents)
    assert 0 < row["stderr"] < 0.2
    assert (row["documents"], row["texts"], row["draws"]) == (n_documents, *[4 * n_documents] * 2)
    nats, n_bytes = 0.0, 0
    for doc in documents("sweeper_texts"):
        text = doc["text"].encode()
        parts = [text[i : i + SEQ_LEN] for i in range(0, len(text), SEQ_LEN)]
        nats += sum(log_p(model, part).sum().item() for part in parts)
        n_bytes += len(text)
    row = found["sweeper_texts", "bits_per_byte"]
    assert row["value"] == pytest.approx(-nats / n_bytes / math.log(2), rel=1e-5)
    assert row["nats"] == pytest.approx(nats, rel=1e-5)
    assert (row["tokens"], row["nats_stderr_of_draws"]) == (n_bytes, 0.0)


@needs_lm_eval
@pytest.mark.slow
def test_masked_is_within_its_stated_error_of_many_more_draws(models: dict[str, Path]) -> None:
    found, model = results(models["masked"]), sweeper.load_model(models["masked"])
    row = found["sweeper_texts", "bits_per_byte"]
    assert row["value"] == pytest.approx(-row["nats"] / row["tokens"] / math.log(2), rel=1e-6)
    many = Scorer(model.family, model.network, SEQ_LEN, torch.device("cpu"), seed=1, max_draws=512)
    texts = [doc["text"].encode() for doc in documents("sweeper_texts")]
    parts = [
        [Option((), (*text[i : i + SEQ_LEN],))]
        for text in texts
        for i in range(0, len(text), SEQ_LEN)
    ]
    scores = [score for (score,) in many.scores(parts)]
    error = math.hypot(row["nats_stderr_of_draws"], *(score.stderr for score in scores))
    assert 0 < error < 0.02 * abs(row["nats"])
    assert row["nats"] == pytest.approx(sum(score.nats for score in scores), abs=4 * error)
    questions, answers = [], []
    for doc in documents("sweeper_completions"):
        context = doc["context"].rstrip()  # lm-eval scores what is stripped with the option
        rest = doc["context"][len(context) :]
        ids = [(*(rest + choice).encode(),) for choice in doc["choices"]]
        questions.append([Option((*context.encode(),), each) for each in ids])
        answers.append(doc["answer"])
    n_right = n_open = 0
    for scores, answer in zip(many.scores(questions), answers, strict=True):
        n_right += max(range(4), key=lambda i: scores[i].nats) == answer
        n_open += not scores[0].is_sure
    row = found["sweeper_completions", "acc"]
    # Those that both have decided are decided alike.
    assert abs(row["value"] * 24 - n_right) <= row["undecided_questions"] + n_open < 24
    assert 8 <= row["draws"] / row["texts"] <= 128
    assert 0 < row["undecided_questions"] < row["documents"]


@needs_lm_eval
def test_the_table_says_how_texts_were_scored(models: dict[str, Path]) -> None:
    shown = asked(models["uniform"], "--tasks", "sweeper_completions", "--limit", 2).stdout
    assert "sweeper_completions  acc " in shown
    assert "as this family reads no clean context unless trained with prefix_share" in shown
    again = results(models["masked"], "--tasks", "sweeper_completions", "--limit", 2, "--seed", 3)
    same = results(models["masked"], "--tasks", "sweeper_completions", "--limit", 2, "--seed", 3)
    assert again == same


@needs_lm_eval
@pytest.mark.parametrize("name", ["ar", "masked"])
def test_the_adapter_generates_until_a_stop(name: str, models: dict[str, Path]) -> None:
    from sweeper.benchmarks.adapter import SweeperLM

    adapter = SweeperLM(sweeper.load_model(models[name]), models[name], seed=0)
    contexts, wishes = ("", "import " * 20, "def f("), {"max_gen_toks": 12}
    whole, texts = (
        adapter.generate_until(
            [SimpleNamespace(args=(c, wishes | {"until": u}), task_name="made") for c in contexts]
        )
        for u in ([], ["e"])
    )
    assert texts == [text.split("e")[0] for text in whole]
    assert any(texts)
    assert (adapter.tallies["made"].texts, adapter.tallies["made"].cut) == (6, 2)
    assert adapter.eot_token_id == 0
    assert adapter.loglikelihood_rolling([SimpleNamespace(args=("",), task_name="made")]) == [0.0]


@needs_lm_eval
@pytest.mark.slow
def test_a_task_that_nobody_knows_is_refused_with_what_there_is(models: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'sweeper_texts'\?"):
        asked(models["ar"], "--tasks", "sweeper_text")


def test_without_lm_eval_the_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MissingPackage, match=r"pip install 'sweeper\[bench\]'"):
        asked(tmp_path)
