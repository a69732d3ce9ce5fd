"""Planning where the data are not: what is assumed, what is said, and what is checked later."""

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweeper.errors import ConfigError, DataError
from sweeper.planning.planner import PlannedSweep, plan_sweep, plan_to_json, preview_sweep
from sweeper.sweepfile.schema import LoadedSweep, load_sweep
from sweeper.verbs.plan import plan_view

ABSENT = "tokens:/no/such/place"
HERE = "synthetic:iid?vocab=16&tokens=100000"
SWEEP = """\
name: far
corpus:
  source: "{source}"
  seq_len: 16
  assume: {assume}
series:
  ar: {{family: ar}}
  masked: {{family: masked}}
design:
  grid: {{sizes: [5K, 10K], tokens: [100K, 1M]}}
train: {{batch_tokens: 256}}
evaluation: {{sequences: 64}}
"""
TRUE = "{vocab_size: 16, train_tokens: 95K, validation_tokens: 5K}"


def loaded(folder: Path, source: str = ABSENT, assume: str = TRUE) -> LoadedSweep:
    path = folder / "far.yaml"
    path.write_text(SWEEP.format(source=source, assume=assume))
    return load_sweep(path)


def preview(folder: Path, **changes: str) -> PlannedSweep:
    return preview_sweep(loaded(folder, **changes), bfloat16_from_width=math.inf)


def without_ids(plan: PlannedSweep) -> dict[str, Any]:
    fields = plan_to_json(plan)
    for trial in fields["trials"]:
        del trial["trial_id"]
    return {key: fields[key] for key in ("trials", "skipped", "totals")}


def test_an_assumed_corpus_gives_the_plan_of_the_true_one(tmp_path: Path) -> None:
    assumed, true = preview(tmp_path), preview(tmp_path, source=HERE)
    assert without_ids(assumed) == without_ids(true)
    first, *others = assumed.warnings
    assert first.code == "assumed_corpus"
    assert "No such file or directory" in first.message
    assert others == [*true.warnings]


def test_trials_on_an_assumed_corpus_have_no_ids(tmp_path: Path) -> None:
    plan = preview(tmp_path)
    fields = plan_to_json(plan)
    assert [trial["trial_id"] for trial in fields["trials"]] == [None] * 4
    assert fields["corpus"]["fingerprint"] is None
    console = Console(width=140, file=io.StringIO())
    with console.capture() as captured:
        for part in plan_view(plan):
            console.print(part)
    shown = captured.get()
    assert "all assumed" in shown
    assert "[assumed_corpus]" in shown
    assert not any(planned.trial.trial_id in shown for planned in plan.trials)


def test_an_assumed_sweep_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        plan_sweep(loaded(tmp_path), bfloat16_from_width=math.inf)
    message = str(caught.value)
    assert "far.yaml:3:11  corpus.source" in message
    assert "cannot read '/no/such/place/meta.json': No such file or directory" in message
    assert "corpus.assume serves `sweeper plan` alone" in message


@pytest.mark.parametrize("source", ["stdlb", "tokens:", "synthetic:iid?vocab=x", "path:/dev/null"])
def test_a_source_that_is_wrong_everywhere_is_not_assumed(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"far.yaml:3:11  corpus.source"):
        preview(tmp_path, source=source)


def test_a_damaged_corpus_is_not_assumed(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "meta.json").write_text("{")
    with pytest.raises(DataError, match="mend the file"):
        preview(tmp_path, source=f"tokens:{tmp_path / 'tokens'}")


@pytest.mark.parametrize("planner", [plan_sweep, preview_sweep])
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("size: 16", "size: 17", ["vocab_size: found 17", "vocabulary of 16", "expected the same"]),
        ("95K", "90K", ["train_tokens: found 90K", "has 95000 train_tokens", "within 5%"]),
        ("5K}", "5.5K}", ["validation_tokens: found 5.5K", "has 5000 validation_tokens"]),
        ("5K}", "5K, bytes_per_token: 4}", ["bytes_per_token: found 4", "has no bytes_per_token"]),
    ],
)
def test_an_assumption_is_checked_once_the_corpus_is_there(
    planner: Any, old: str, new: str, words: list[str], tmp_path: Path
) -> None:
    assert TRUE.count(old) == 1
    sweep = loaded(tmp_path, source=HERE, assume=TRUE.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        planner(sweep, bfloat16_from_width=math.inf)
    assert "far.yaml:5:" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_an_assumption_within_five_per_cent_holds_and_changes_no_trial(tmp_path: Path) -> None:
    near = TRUE.replace("95K", "99K").replace("5K}", "4.8K}")
    plan = preview(tmp_path, source=HERE, assume=near)
    assert plan == preview(tmp_path, source=HERE)
    assert plan.corpus.train_tokens == 95_000


def test_an_assumed_corpus_may_be_too_small(tmp_path: Path) -> None:
    small = TRUE.replace("5K}", "500}")
    with pytest.raises(ConfigError, match=r"far.yaml:12:25  evaluation.sequences: .*holds 31"):
        preview(tmp_path, assume=small)


def test_bytes_per_token_may_be_assumed(tmp_path: Path) -> None:
    plan = preview(tmp_path, assume=TRUE.replace("5K}", "5K, bytes_per_token: 3.9}"))
    assert plan.corpus.bytes_per_token == 3.9
    without = dataclasses.replace(plan.corpus, bytes_per_token=None)
    assert preview(tmp_path).corpus == without


@pytest.mark.parametrize(
    ("assume", "words"),
    [
        ("{}", "no 'vocab_size'"),
        ("[16]", "expected a mapping with the keys vocab_size, train_tokens"),
        ("{vocab: 16}", "unknown key 'vocab'"),
        (TRUE.replace("16", "1"), "expected at least 2"),
        (TRUE.replace("16", "1e9"), "expected at most 10,000,000"),
        (TRUE.replace("95K", "lots"), "train_tokens"),
        (TRUE.replace("95K", "0"), "expected at least 1"),
        (TRUE.replace("5K}", "5K, bytes_per_token: 0}"), "more than 0"),
    ],
)
def test_a_broken_assumption_is_refused_with_its_place(
    assume: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, assume=assume)
    assert "far.yaml:5:" in str(caught.value)
    assert words in str(caught.value)


def test_a_column_that_nothing_uses_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("prose\n" * 10_000)
    sweep = SWEEP.replace("  assume: {assume}", "  text_column: text").format(
        source=f"path:{tmp_path}/a.txt"
    )
    (tmp_path / "x.yaml").write_text(sweep)
    with pytest.raises(ConfigError, match=r"x.yaml:5:\d+ +corpus.text_column.* has no columns"):
        plan_sweep(load_sweep(tmp_path / "x.yaml"), bfloat16_from_width=math.inf)
