"""Law files: what is written is read, every mistake has its place, and sweeps carry their laws."""

import math
from pathlib import Path

import pytest

from sweeper.errors import ConfigError
from sweeper.sweepfile.document import read_document
from sweeper.sweepfile.law_file import Measurement, Provenance, read_laws, write_laws
from sweeper.sweepfile.named_laws import named_law_files, without_laws
from sweeper.sweepfile.schema import load_sweep, validated
from sweeper.trials.tuned_laws import Curvature, LawKey, SizeTokensLaw, TunedLaw

MASKED = LawKey(
    "masked", (("objective", "nelbo"),), "gidd", "adamw", "constant", (0.9, 0.99), 0.0, 0.999
)
HYBRID = LawKey(
    "hybrid",
    (("objective", "unweighted"), ("shift", "inf")),
    *("gidd", "laprop", "wsd", (0.9, 0.99), 0.1, 0.0),
)


def law_of(key: LawKey) -> TunedLaw:
    return TunedLaw(
        key=key,
        learning_rate=SizeTokensLaw(math.log(1.87654321), -0.71234567, 0.3),
        batch_tokens=SizeTokensLaw(-31.4159265, 0.1, 1.2345678e-5),
        curvature=Curvature(rate=0.0212345678, batch=0.015, cross=-0.006),
        params_range=(2594.0, 38912.0),
        tokens_range=(1234567.0, 1.1e7),
        intervals={
            "learning_rate.tokens_exponent": (0.21234567, 0.4),
            "learning_rate.log_coefficient": (-2000.0, 1.0),
            "curvature.cross": (-0.01, 0.001),
        },
    )


def written(path: Path, *keys: LawKey) -> tuple[TunedLaw, ...]:
    # Of these ids YAML readers take the first for a number and the second for 1234.
    records = ("12345678e123", "000000001234", "0a1b2c3d4e5f")
    measurement = Measurement("on-text", records, "synthetic:iid?vocab=16", 64, 0.00312345678)
    laws = tuple(map(law_of, keys))
    command = "sweeper tune x.yaml\n-o laws.yaml"
    write_laws(path, laws, Provenance(command, (measurement,) * len(laws)))
    return laws


def test_what_was_written_is_read_and_written_as_the_same_bytes(tmp_path: Path) -> None:
    first, again = tmp_path / "laws.yaml", tmp_path / "again.yaml"
    laws = written(first, MASKED, HYBRID)
    read = read_laws(first)
    measurement = Measurement(
        "on-text",
        ("12345678e123", "000000001234", "0a1b2c3d4e5f"),
        "synthetic:iid?vocab=16",
        64,
        0.00312345678,
    )
    write_laws(again, read, Provenance("sweeper tune x.yaml -o laws.yaml", (measurement,) * 2))
    assert again.read_bytes() == first.read_bytes()
    for law, one in zip(laws, read, strict=True):
        assert one.key == law.key
        for n, d in ((2e3, 1e6), (4e5, 3e7)):
            assert one.best_batch(n, d) == pytest.approx(law.best_batch(n, d), rel=1e-4)
            assert one.best_rate(n, d, 512) == pytest.approx(law.best_rate(n, d, 512), rel=1e-4)
        assert one.curvature.rate == 0.0212346
        assert one.tokens_range == (1234570.0, 1.1e7)
        assert one.intervals["learning_rate.tokens_exponent"] == (0.212346, 0.4)
        low, high = one.intervals["learning_rate.log_coefficient"]
        assert low == pytest.approx(-690)  # the smallest that a coefficient is written for
        assert high == pytest.approx(1.0, abs=1e-5)
    assert "# Made by: sweeper tune x.yaml -o laws.yaml\n" in first.read_text()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version: 1", "version: 2", ":7:10  version: found 2 — expected 1"),
        ("family: masked", "family: maskd", "found maskd — expected one of"),
        ("family: masked", "famly: masked", "did you mean 'family'?"),
        ("tokens_exponent: 0.3", "tokens_exponent: x", "expected a number such as"),
        ("coefficient: 1.87654", "coefficient: -1", "expected a number above 0"),
        ("rate: 0.0212346", "rate: 0.001", "curvature: found a mapping — expected one minimum"),
        ("[-0.01, 0.001]", "[0.01, 0.001]", "low <= high"),
        ("schedule: constant", "schedule: none", "'constant', 'cosine' or 'wsd'"),
        ("ema: 0.999", "ema: 1", "less than 1"),
        ("params: [2594, 38912]", "params: 2594", "expected a list of two numbers"),
        ("laws:", "laws: []\nother:", "unknown key 'other'"),
    ],
)
def test_every_mistake_is_told_with_its_place(
    old: str, new: str, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "laws.yaml"
    written(path, MASKED)
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_laws(path)
    assert f"{path}:" in str(caught.value)
    assert expected in str(caught.value)


def test_a_key_has_one_law(tmp_path: Path) -> None:
    written(tmp_path / "laws.yaml", MASKED, MASKED)
    with pytest.raises(ConfigError, match=r"laws\.1: .*the same as that of entry 0"):
        read_laws(tmp_path / "laws.yaml")


SWEEP = """\
# A comment of the owner.
name: tiny
corpus: {source: "synthetic:iid?tokens=40000", seq_len: 16}
series:
  masked: {family: masked}
design: {grid: {sizes: [5K], tokens: [1M]}}
train: {learning_rate: tuned, laws: ../laws.yaml}
"""


def test_a_sweep_as_submitted_holds_its_laws_and_can_be_planned_alone(tmp_path: Path) -> None:
    written(tmp_path / "laws.yaml", MASKED)
    (tmp_path / "sweeps").mkdir()
    path = tmp_path / "sweeps/x.yaml"
    for text, overrides in ((SWEEP, ()), (SWEEP, ("train.seeds=[1]",)), (flow(SWEEP), ())):
        path.write_text(text)
        written(tmp_path / "laws.yaml", MASKED)
        loaded = load_sweep(path, overrides)
        (tmp_path / "laws.yaml").unlink()
        stored = tmp_path / "stored.yaml"
        stored.write_text(loaded.document.as_submitted())
        again = load_sweep(stored)
        assert again.sweep == loaded.sweep
        assert (
            again.sweep.law_files["../laws.yaml"].laws[0].law
            == loaded.sweep.law_files["../laws.yaml"].laws[0].law
        )
        assert again.document.as_submitted() == stored.read_text()  # a revision of its own no more
    path.write_text(SWEEP)
    written(tmp_path / "laws.yaml", MASKED)
    assert load_sweep(path).document.as_submitted().startswith(SWEEP)


def flow(text: str) -> str:
    """The sweep as one mapping in braces."""
    lines = text.replace(
        "series:\n  masked: {family: masked}", "series: {masked: {family: masked}}"
    )
    return "{" + ",\n".join(lines.splitlines()[1:]) + "}\n"


def test_what_is_tuned_is_auto_before_it_is_tuned(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    own = "{family: masked, train: {batch_tokens: tuned, laws: other.yaml, seeds: [2]}}"
    text = SWEEP.replace("{family: masked}", own).replace("masked:", "train:")
    path.write_text(text.replace("laws: ../laws.yaml", "laws: gone.yaml, max_horizon_bias: 1%"))
    document = read_document(path)
    sweep = validated(without_laws(document)).sweep
    assert (sweep.train.learning_rate, sweep.train.laws) == ("auto", "")
    assert sweep.train.max_horizon_bias == math.inf
    own_train = sweep.series["train"].train
    assert (own_train.batch_tokens, own_train.laws, own_train.seeds) == ("auto", "", (2,))
    assert named_law_files(document) == ("other.yaml", "gone.yaml")


def test_a_missing_law_file_and_a_mistake_in_one_are_told_with_their_own_places(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(SWEEP.replace("../", ""))
    with pytest.raises(ConfigError) as missing:
        load_sweep(path)
    assert f"{path}:7:37  laws: {tmp_path / 'laws.yaml'}: no such law file" in str(missing.value)
    written(tmp_path / "laws.yaml", MASKED)
    law_file = tmp_path / "laws.yaml"
    law_file.write_text(law_file.read_text().replace("backbone: gidd", "backbone: gid"))
    with pytest.raises(ConfigError) as broken:
        load_sweep(path)
    assert f"{law_file}:1" in str(broken.value)
    assert "law_files.laws.yaml.laws.0.key.backbone: found gid" in str(broken.value)
