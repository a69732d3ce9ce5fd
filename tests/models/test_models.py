"""Models of trained trials: what stays, what is exported, and that they give the same numbers."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import planted
import pytest
import torch
from command_line import sweeper as command
from small_trials import SEQ_LEN, SOURCE, StopAfter, assignment_of, never, trial_of

import sweeper
from sweeper.data.corpus import load_corpus
from sweeper.errors import ConfigError, OutputError, StoreError
from sweeper.evaluation.bound import evaluate_bound, validation_set
from sweeper.executors.inline import InlineExecutor
from sweeper.executors.stop import StopSignal
from sweeper.families import family_names
from sweeper.families.base import SamplingPlan
from sweeper.models.checks import model_flaws
from sweeper.models.config import CONFIG_FILE, WEIGHTS_FILE, read_config
from sweeper.models.export import choose, export_model
from sweeper.models.kept import INDEX_FILE, Keeper, kept_models, model_folders
from sweeper.models.model_file import write_model, write_tensors
from sweeper.orchestration.driver import SweepRun, run_sweep
from sweeper.orchestration.verify import verify
from sweeper.store import files
from sweeper.store.assignment import StopRequested
from sweeper.store.layout import Store
from sweeper.store.results import publish, read_records, record_paths
from sweeper.store.submission import read_plan, submit
from sweeper.training.worker import run_trial
from sweeper.trials.plan import Plan
from sweeper.trials.resources import KeepModels
from sweeper.trials.trial import Trial


def trained(folder: Path, *trials: Trial, stops: tuple[int, ...] = (), **of_plan: Any) -> Store:
    """The store of a sweep of these trials; every attempt is stopped after so many questions."""
    plan = Plan("sweep", tuple(assignment_of(folder, t).planned for t in trials), **of_plan)
    store = Store((folder / "sweep").resolve())
    submit(store, plan, "name: sweep\n")
    for trial in trials:
        requests: list[StopRequested] = [*map(StopAfter, stops), never]
        for stop in requests:
            assignment = dataclasses.replace(assignment_of(folder, trial), keeps_models=True)
            run_trial(assignment, stop=stop)
    return store


def reduced(store: Store) -> Store:
    Keeper(store).reduce(read_plan(store))
    return store


def exported(folder: Path, name: str = "masked", **changes: object) -> Path:
    store = trained(folder, trial_of(name, **changes))
    export_model(store, kept_models(store)[-1], folder / "model")
    return folder / "model"


def contents(store: Store) -> dict[str, bytes]:
    folder = planted.on_disk(store.models)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def flaws(store: Store) -> list[str]:
    records = read_records(record_paths(store))
    return [code for code, *_ in model_flaws(store, read_plan(store), records, is_at_rest=True)]


@pytest.mark.parametrize("name", family_names())
def test_a_loaded_model_has_the_bound_of_its_record_to_the_last_bit(
    name: str, tmp_path: Path
) -> None:
    trial = trial_of(name)
    averaged = dataclasses.replace(trial.optimizer, ema_decay=0.9, learning_rate=0.01)
    folder = exported(tmp_path, name, optimizer=averaged, backbone="dit")
    model = sweeper.load_model(folder)
    network, family = model
    validation = validation_set(load_corpus(SOURCE), seq_len=SEQ_LEN, n_sequences=20)
    estimate = evaluate_bound(model.family, model.network, validation, trial.evaluation.seed)
    (record,) = read_records(record_paths(Store(tmp_path / "sweep")))
    row = record["observations"][-1]
    assert (network, family) == (model.network, model.family)
    assert estimate.nats_per_token == row["bound_nats_per_token"]
    assert estimate.nats_per_token == model.config.bound_nats_per_token
    assert estimate.stderr == model.config.bound_stderr_nats_per_token
    config = model.config
    assert (config.label, config.step, config.seq_len, config.vocab_size) == (name, 10, 16, 8)
    assert model.tokenizer.decode(model.tokenizer.encode("3 1 4")) == "3 1 4"


def test_a_killed_and_resumed_sweep_keeps_the_same_files(tmp_path: Path) -> None:
    trials = [trial_of("masked", rung=trial_of().rung, seed=seed) for seed in (0, 1, 2)]
    store = reduced(trained(tmp_path / "a", *trials))
    resumed = reduced(trained(tmp_path / "b", *trials, stops=(2, 3, 2)))
    assert contents(resumed) == contents(store)
    # One series; `assignment_of` plans both steps for one budget.
    (kept,) = kept_models(store)
    rows = [row for r in read_records(record_paths(store)) for row in r["observations"]]
    assert kept.bound_nats_per_token == min(row["bound_nats_per_token"] for row in rows)
    assert not flaws(store)


@pytest.mark.parametrize(("keep", "n_kept"), [("optimal", 1), ("all", 4), ("none", 0)])
def test_the_driver_leaves_the_models_that_stay(
    keep: KeepModels, n_kept: int, tmp_path: Path
) -> None:
    trials = [trial_of(seed=0), trial_of(seed=1)]
    plan = Plan("sweep", tuple(assignment_of(tmp_path / "x", t).planned for t in trials), keep=keep)
    store, stop = planted.submitted_store(tmp_path / "sweep", plan), StopSignal()
    run_sweep(
        SweepRun(
            store=store,
            plan=plan,
            executor=InlineExecutor(run_trial, stop.is_requested),
            stop=stop,
            on_event=lambda _: None,
        )
    )
    models = kept_models(store)
    assert len(models) == n_kept
    assert model_folders(store) == sorted((model.path for model in models), key=str)
    assert not verify(tmp_path / "sweep")


def test_keep_says_how_many_stay(tmp_path: Path) -> None:
    store = trained(tmp_path, trial_of(), keep="all")
    assert len(kept_models(reduced(store))) == 2
    submit(store, dataclasses.replace(read_plan(store), keep="none"), "name: sweep\n")
    assert read_plan(store).keep == "none"
    assert not kept_models(reduced(store))
    assert [*contents(store)] == [INDEX_FILE]


def test_a_model_stays_until_the_better_one_is_published(tmp_path: Path) -> None:
    first, second = trial_of(seed=0), trial_of(seed=1)
    store = trained(tmp_path, first, second)
    records = {path.stem: path.read_bytes() for path in record_paths(store)}
    (best,) = (m.trial_id for m in kept_models(reduced(trained(tmp_path / "x", first, second))))
    planted.on_disk(store.record(best)).unlink()
    (other,) = {model.trial_id for model in kept_models(reduced(store))}
    assert other != best
    assert len(model_folders(store)) == 1 + 2  # those of the trial that is still to be published
    planted.on_disk(store.record(best)).write_bytes(records[best])
    (model,) = kept_models(reduced(store))
    assert model.trial_id == best
    assert model_folders(store) == [model.path]


def test_a_superseded_attempt_leaves_no_model(tmp_path: Path) -> None:
    store = trained(tmp_path, trial_of(), keep="all")
    kept = kept_models(store)
    config = read_config(kept[0].path)
    other = dataclasses.replace(config, bound_nats_per_token=0.5)
    weights = {"w": torch.ones(3)}
    write_model(planted.on_disk(store.models) / config.trial.trajectory_id, other, weights, None)
    assert kept_models(store) == kept
    assert flaws(store) == ["leftover-model"]
    assert len(model_folders(reduced(store))) == 2


def test_models_live_in_object_stores_too(tmp_path: Path) -> None:
    place = planted.kind_of_store("objects", tmp_path / "results/planted")
    # Two seeds of one law are equally good at both budgets.
    trials = tuple(planted.planned_trial(width=8, seed=seed) for seed in (0, 1))
    plan = Plan("planted", trials)
    store = planted.submitted_store(place, plan)
    config = read_config(exported(tmp_path))
    for planned in plan.trials:
        assignment = planted.assignment_of(store, planned)
        result = planted.planted_result(assignment)
        for row in result.observations:
            model = dataclasses.replace(
                config,
                trial=planned.trial,
                trial_id=planned.trial_id,
                step=row.step,
                bound_nats_per_token=row.bound_nats_per_token,
            )
            write_model(store.models / planned.trajectory_id, model, {"w": torch.ones(3)}, None)
        publish(assignment, result)
    reduced(store)
    models = kept_models(store)
    assert [model.step for model in models] == [10, 20]
    assert model_folders(store) == sorted((m.path for m in models), key=str)
    export_model(store, models[0], tmp_path / "taken")
    assert (tmp_path / "taken" / WEIGHTS_FILE).exists()
    assert not flaws(store)


Damage = Callable[[Path], object]


def change_config(**changes: object) -> Damage:
    def change(folder: Path) -> None:
        fields = json.loads((folder / CONFIG_FILE).read_text())
        (folder / CONFIG_FILE).write_text(json.dumps({**fields, **changes}))

    return change


def change_rung(folder: Path) -> None:
    fields = json.loads((folder / CONFIG_FILE).read_text())
    fields["trial"]["rung"]["n_layers"] = 100_000
    trial = trial_of(rung=dataclasses.replace(trial_of().rung, n_layers=100_000))
    fields["trial_id"] = trial.trial_id
    (folder / CONFIG_FILE).write_text(json.dumps(fields))


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS_FILE).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(data)


def of_other_tensors(folder: Path) -> None:
    tensors = {"w": torch.ones(3)}
    write_tensors(folder / WEIGHTS_FILE, tensors)
    change_config(weights_sha256=files.sha256(folder / WEIGHTS_FILE))(folder)


def with_half_precision(folder: Path) -> None:
    weights = sweeper.load_model(folder).network.backbone.state_dict()
    write_tensors(folder / WEIGHTS_FILE, {n: t.half() for n, t in weights.items()})
    change_config(weights_sha256=files.sha256(folder / WEIGHTS_FILE))(folder)


DAMAGED: dict[str, tuple[Damage, str]] = {
    "no config": (lambda folder: (folder / CONFIG_FILE).unlink(), "cannot be read"),
    "no weights": (lambda folder: (folder / WEIGHTS_FILE).unlink(), "cannot be read"),
    "a torn config": (lambda f: (f / CONFIG_FILE).write_text('{"format":'), "not the config"),
    "a list": (lambda f: (f / CONFIG_FILE).write_text("[]"), "format"),
    "another format": (change_config(format="gguf"), "format"),
    "a later version": (change_config(version=2), "version 2, this sweeper reads 1"),
    "a text for a number": (change_config(step="10"), "step is '10', expected int"),
    "true for a number": (change_config(bound_nats_per_token=True), "True, expected float"),
    "an unknown tokenizer": (change_config(tokenizer="pickle"), "expected one of bytes"),
    "an unknown key": (change_config(hook="os.system"), "hook"),
    "another trial": (change_config(trial_id="0" * 12), "it was changed"),
    "a list for a trial": (change_config(trial=[]), "trial is no JSON object"),
    "many layers": (change_rung, "weights, expected"),
    "a bit": (flip_a_bit, "sha-256"),
    "other tensors": (of_other_tensors, "has 3 weights, expected"),
    "another precision": (with_half_precision, "other names, types or shapes"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_torn_or_foreign_model_is_refused_with_a_sentence(
    kind: str, whole: Path, tmp_path: Path
) -> None:
    damage, found = DAMAGED[kind]
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    damage(folder)
    with pytest.raises(StoreError) as caught:
        sweeper.load_model(folder)
    assert str(folder) in str(caught.value)
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (flip_a_bit, "torn-model"),
        (change_config(version=2), "torn-model"),
        (lambda folder: (folder / WEIGHTS_FILE).unlink(), "torn-model"),
        (shutil.rmtree, "missing-model"),
    ],
)
def test_verify_names_what_is_wrong_with_models(damage: Damage, code: str, tmp_path: Path) -> None:
    store = reduced(trained(tmp_path, trial_of()))
    assert not flaws(store)
    damage(planted.on_disk(kept_models(store)[0].path))
    assert flaws(store) == [code]


def test_export_finds_a_model_by_the_start_of_its_id_and_says_what_is_kept(tmp_path: Path) -> None:
    one, two = trial_of("ar"), trial_of("masked")
    store = trained(tmp_path, one, two, keep="all")
    models = kept_models(store)
    short = next(
        one.trial_id[:n] for n in range(1, 12) if not two.trial_id.startswith(one.trial_id[:n])
    )
    assert choose(models, store, short, step=4).step == 4
    with pytest.raises(ConfigError, match=r"several steps; expected one of --step 4 .*--step 10"):
        choose(models, store, short)
    with pytest.raises(ConfigError, match="not kept there"):
        choose(models, store, short, step=5)
    with pytest.raises(ConfigError, match=r"no trial here; kept are .*ar, step 4"):
        choose(models, store, "zz")
    with pytest.raises(ConfigError, match="2 trials with kept models begin so"):
        choose(models, store, "")
    with pytest.raises(ConfigError, match="not kept; no weights are kept in this folder"):
        choose((), store, short)


def test_the_command_exports_a_model_with_its_card(tmp_path: Path) -> None:
    store = reduced(trained(tmp_path, trial_of()))
    (model,) = kept_models(store)
    words = ("export", "sweep", "--trial", model.trial_id[:6], "-o", "out")
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "out/README.md").read_text()
    for told in (model.trial_id, f"{model.bound_nats_per_token:.6f}", "load_model", "Limits"):
        assert told in card
    again = command(*words, cwd=tmp_path)
    assert again.returncode == 2
    assert "exists and is not an empty folder" in again.stderr


def test_a_damaged_model_is_not_exported(tmp_path: Path) -> None:
    store = reduced(trained(tmp_path, trial_of()))
    (model,) = kept_models(store)
    flip_a_bit(planted.on_disk(model.path))
    with pytest.raises(StoreError, match="missing or damaged"):
        export_model(store, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="not an empty folder"):
        export_model(store, model, tmp_path / "file")


TORCH_ALONE = """
import builtins, sys
folder, validation = sys.argv[1:]
standard = sys.stdlib_module_names | {"sweeper", "torch", "typing_extensions", "sympy", "mpmath",
    "networkx", "jinja2", "markupsafe", "filelock", "fsspec", "setuptools", "torchgen", "functorch"}
real = builtins.__import__
def only_torch(name, globals=None, locals=None, fromlist=(), level=0):
    by = (globals or {}).get("__name__", "")
    if level == 0 and name.split(".")[0] not in standard and by.split(".")[0] == "sweeper":
        raise ImportError(f"{by} imports {name}")
    return real(name, globals, locals, fromlist, level)
builtins.__import__ = only_torch
import torch
torch.set_num_threads(1)
torch.set_flush_denormal(True)
import sweeper
from sweeper.evaluation.bound import ValidationSet, evaluate_bound
from sweeper.families.base import SamplingPlan
from sweeper.models.model_file import read_tensors
from pathlib import Path
network, family = model = sweeper.load_model(folder)
tensors, _ = read_tensors(Path(validation))
found = ValidationSet(tensors["sequences"], tensors["ngram_nll"], tensors["mean_ngram_nll"])
bound = evaluate_bound(family, network, found, model.config.trial.evaluation.seed)
plan = SamplingPlan(n_sequences=2, seq_len=model.config.seq_len, n_steps=8)
samples = family.sample(network, plan, torch.Generator().manual_seed(5))
print(bound.nats_per_token.hex(), samples.ids_BL.tolist())
heavy = ("numpy", "pydantic", "yaml", "pyarrow", "pandas", "scipy", "ray", "rich", "click")
print([name for name in heavy if name in sys.modules and name != "numpy"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ar", "masked", "esolm"])
def test_with_torch_alone_bound_and_sample_are_the_same_to_the_last_bit(
    name: str, tmp_path: Path
) -> None:
    folder = exported(tmp_path, name)
    model = sweeper.load_model(folder)
    found = validation_set(load_corpus(SOURCE), seq_len=SEQ_LEN, n_sequences=20)
    tensors = {
        "sequences": found.sequences_NL,
        "ngram_nll": found.ngram_nll_NLK,
        "mean_ngram_nll": found.mean_ngram_nll_K,
    }
    write_tensors(tmp_path / "validation", tensors)
    done = subprocess.run(
        [sys.executable, "-c", TORCH_ALONE, str(folder), str(tmp_path / "validation")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    plan = SamplingPlan(n_sequences=2, seq_len=SEQ_LEN, n_steps=8)
    samples = model.family.sample(model.network, plan, torch.Generator().manual_seed(5))
    bound = model.config.bound_nats_per_token.hex()
    assert done.stdout.splitlines() == [f"{bound} {samples.ids_BL.tolist()}", "[]"]
