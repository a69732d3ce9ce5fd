"""The sweep file's schema: what a person chooses, and nothing that follows from it.

`load_sweep` reads, checks and reports every problem of the schema at once, each with its position.
What needs the corpus or a family (steps, vocabulary, options of a family) the planner checks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import ConfigDict, Field, model_validator

from sweeper.errors import ConfigError
from sweeper.families import family_names
from sweeper.sweepfile.document import (
    SweepDocument,
    apply_overrides,
    expected_one_of,
    read_document,
)
from sweeper.sweepfile.fields import (
    MAX_SEQ_LEN,
    AutoLengthShare,
    AutoMinimumShare,
    AutoRate,
    Budget,
    Count,
    Distinct,
    FolderName,
    NormOrNone,
    Number,
    OneOrSeveral,
    Pair,
    Part,
    Seconds,
    Seed,
    Several,
    Share,
    ShareOrAll,
    Size,
    Sizes,
    Slug,
    StepsBySize,
    Tokens,
    TunedCount,
    TunedRate,
    Warmup,
    WrittenCount,
    distinct,
    written,
    wrong,
)
from sweeper.sweepfile.law_file import LawFile
from sweeper.sweepfile.messages import problems
from sweeper.sweepfile.named_laws import with_law_files
from sweeper.sweepfile.quantities import parse_count
from sweeper.sweepfile.question import AddedRuns, AskChoice, AutoDesign
from sweeper.sweepfile.resources import KeepChoice, ResourceChoice, RetryChoice, checked, of_word
from sweeper.sweepfile.tune_choice import TuneChoice
from sweeper.trials.ladder import BackboneName, Rung
from sweeper.trials.plan import KeptUntil
from sweeper.trials.resources import KeepModels, Limits
from sweeper.trials.text_options import AS_BYTES, KEYS, TEXT_OPTION_KEYS, TextOptions
from sweeper.trials.trial import (
    EMBEDDING_LEARNING_RATE_RATIO,
    MAX_VOCAB_SIZE,
    OptimizerName,
    Schedule,
)


class AssumedCorpus(Part):
    """What a corpus is taken to be by `sweeper plan` on a machine that does not have it."""

    vocab_size: Annotated[Count, Field(ge=2, le=MAX_VOCAB_SIZE)]
    """Token ids, special ones included."""
    train_tokens: Tokens
    """To train on."""
    validation_tokens: Tokens
    """Held out."""
    bytes_per_token: Annotated[Number, Field(gt=0)] | None = None
    """Bytes of text per token; None where there is no text, or nobody knows."""


class CorpusChoice(Part):
    """What to read."""

    source: Annotated[str, Field(min_length=1)]
    """`stdlib`, `path:…`, `tokens:…`, `hf:…`, `synthetic:…`; see `data/sources.py`."""
    seq_len: Annotated[Count, Field(ge=2, le=MAX_SEQ_LEN)]
    """Tokens per sequence, in training and evaluation."""
    tokenizer: Annotated[str, Field(min_length=1)] = AS_BYTES.tokenizer
    """`bytes`, the path of a Hugging Face `tokenizer.json`, or a name on the hub."""
    text_column: Annotated[str, Field(min_length=1)] = AS_BYTES.text_column
    """Column of JSONL and Parquet files, or of a dataset, that holds the documents."""
    max_tokens: Tokens = AS_BYTES.max_tokens
    """Where to stop reading an `hf:` dataset."""
    assume: AssumedCorpus | None = None
    """Checked against the corpus where that can be read."""

    @model_validator(mode="after")
    def _keys_of_the_source(self) -> "CorpusChoice":
        known = KEYS.get(self.source.partition(":")[0], TEXT_OPTION_KEYS)
        for key in TEXT_OPTION_KEYS:
            if key in self.model_fields_set and key not in known:
                takers = " or ".join(f"{kind}:" for kind, keys in KEYS.items() if key in keys)
                raise wrong(f"expected it for {takers} alone: leave it out", key, at_key=True)
        return self

    @property
    def is_costly_to_read(self) -> bool:
        """Whether planning, too, should keep the tokens once they are made."""
        return self.source.startswith("hf:") or self.tokenizer != AS_BYTES.tokenizer

    @property
    def reading(self) -> TextOptions:
        """How the source is read."""
        return TextOptions(**{key: getattr(self, key) for key in TEXT_OPTION_KEYS})


class Train(Part):
    """How to train. Written for the whole sweep or, key by key, for one series."""

    batch_tokens: TunedCount = "auto"
    """Tokens per optimiser step; taken to the nearest whole number of sequences."""
    learning_rate: TunedRate = "auto"
    """Base learning rate; matrices train at it divided by width. With dit: that of all tensors."""
    laws: str = ""
    """Law file that says what is `tuned`, relative to the sweep file."""
    max_horizon_bias: Annotated[Number, Field(gt=0)] = math.inf
    """Largest relative excess loss, by the law, at the first or last observation of a run that is
    tuned for their middle; a run that would exceed it becomes several."""
    auxiliary_learning_rate: AutoRate = "auto"
    """Learning rate of embeddings, head, norms, biases and sinks."""
    embedding_learning_rate_ratio: Annotated[Number, Field(gt=0, le=100)] = (
        EMBEDDING_LEARNING_RATE_RATIO
    )
    """Learning rate of the input table in units of the auxiliary one."""
    optimizer: OptimizerName = "adamw"
    """`laprop` is that of arXiv 2512.10858; `muon` trains the matrices of all layers, and adamw the
    rest, see `docs/training.md`."""
    schedule: Schedule = "constant"
    """Course of the learning rate after warmup. `cosine` and `wsd` (a cooldown at the end) depend
    on the length of the run, so that every observation takes a run of its own."""
    warmup: Warmup = "auto"
    """Optimiser steps of linear warmup, 1 meaning none; or `{share, at_least}` of the run."""
    cooldown: AutoLengthShare = "auto"
    """Share of the run over which `wsd` brings the rate down to zero."""
    min_learning_rate_ratio: AutoMinimumShare = "auto"
    """Where `cosine` ends, in units of the peak rate."""
    seeds: Annotated[tuple[Seed, ...], Several, Distinct] = (0,)
    """One run of every design point for each."""
    betas: Annotated[tuple[Share, Share], Pair] = (0.9, 0.99)
    """What the moving averages of gradient and squared gradient keep each step."""
    weight_decay: Annotated[Number, Field(ge=0, le=100)] = 0.0
    """Decoupled, of weight matrices; with dit: of all tensors."""
    clip_norm: NormOrNone = 1.0
    """Largest global gradient norm; `none`: gradients are taken as they are."""
    ema: Share = 0.0
    """What the average of the weights that is evaluated keeps each step; 0: no averaging."""
    prefix_share: ShareOrAll = 0.0
    """Share of the sequences that keep a clean prefix, see `prefixes.py`."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 autocast where it is faster, see `recipe.py`."""

    @property
    def named(self) -> tuple[tuple[str, Any], ...]:
        """What is named explicitly, as sorted (key, value) pairs."""
        return tuple((key, getattr(self, key)) for key in sorted(self.model_fields_set))

    def overridden_by(self, other: "Train") -> "Train":
        """This, with what `other` names explicitly taken from it."""
        return self.model_copy(update=dict(other.named))


class Series(Part):
    """One frontier: a family, its options, and its own training settings."""

    model_config = ConfigDict(extra="allow")  # options; the family itself says which it has

    family: str
    """The noise type. Keys beside these two are its options."""
    train: Train = Train()
    """What this series trains otherwise than the sweep."""

    @property
    def options(self) -> dict[str, Any]:
        """Options of the family, as written."""
        return dict(self.__pydantic_extra__ or {})

    @pydantic.field_validator("family")
    @classmethod
    def _known_family(cls, name: str) -> str:
        if name not in family_names():
            raise wrong(expected_one_of(name, family_names()))
        return name


class IsoFlopDesign(Part):
    """Every size observed at every budget its tokens-per-parameter window allows."""

    budgets: Annotated[tuple[Budget, ...], Several, Distinct]
    """Training FLOPs; order does not matter."""
    sizes: Sizes
    """Trunk parameters (20K), names of published models, or {layers, width, heads}."""
    tokens_per_param: Annotated[tuple[Number, Number], Pair] = (0.0, math.inf)
    """Window for tokens per trunk parameter, ends included."""

    on_unbracketed: Literal["warn", "propose", "extend"] = "warn"
    """Where a minimum lies outside the sizes: say so in fits, name the runs that would bracket it
    when `sweeper run` ends, or train these, too, within the limits."""

    @model_validator(mode="after")
    def _window(self) -> "IsoFlopDesign":
        low, high = self.tokens_per_param
        if not 0 <= low < high:
            raise wrong("expected [low, high] with 0 <= low < high", "tokens_per_param")
        return self


class GridDesign(Part):
    """Every size trained on every number of tokens."""

    sizes: Sizes
    """As in isoflop."""
    tokens: Annotated[tuple[Tokens, ...], Several, Distinct]
    """Training tokens."""


class ZipDesign(Part):
    """The first size on the first number of tokens, the second on the second, and so on."""

    sizes: Annotated[tuple[Size, ...], Several]
    """As in isoflop."""
    tokens: Annotated[tuple[Tokens, ...], Several]
    """As many numbers of training tokens."""

    @model_validator(mode="after")
    def _distinct_pairs(self) -> "ZipDesign":
        if len(self.sizes) != len(self.tokens):
            raise wrong(f"expected {len(self.sizes)} entries, one for each of sizes", "tokens")
        distinct([*zip(self.sizes, self.tokens, strict=True)], "tokens")
        return self


class ListedRuns(Part):
    """Runs observed at given lengths: one size or several, of one series, several or all."""

    series: Annotated[tuple[str, ...], OneOrSeveral] = ()
    """Labels; absent: every series."""
    size: Size | None = None
    """One size."""
    sizes: Sizes = ()
    """Or several that share a length."""
    tokens: Annotated[tuple[Tokens, ...], OneOrSeveral] | None = None
    """Training tokens at which the runs are observed, the last being their length."""
    steps: Annotated[tuple[Tokens, ...], OneOrSeveral] | None = None
    """Or optimiser steps."""
    steps_by_size: StepsBySize | None = None
    """Or optimiser steps of each size: {20K: 1000, 40K: 500}."""
    budget: Budget | None = None
    """Training FLOPs that the runs stand for, in whatever convention they were chosen by."""
    train: Train = Train()
    """What these runs train otherwise than the sweep and their series."""

    @property
    def all_sizes(self) -> tuple[Rung, ...]:
        """Sizes that share `tokens` or `steps`."""
        return self.sizes if self.size is None else (self.size,)

    @model_validator(mode="after")
    def _sensible(self) -> "ListedRuns":
        lengths = [key for key in ("tokens", "steps", "steps_by_size") if getattr(self, key)]
        sizes = [key for key in ("size", "sizes", "steps_by_size") if getattr(self, key)]
        if not lengths:
            raise wrong("expected one of the keys 'tokens', 'steps' and 'steps_by_size'")
        for keys in (lengths, sizes):
            if len(keys) > 1:
                expected = f"a second choice beside {keys[0]}; expected exactly one"
                raise wrong(expected, keys[1], at_key=True)
        if not sizes:
            raise wrong("expected the key 'size' or 'sizes'")
        return self


class Design(Part):
    """Exactly one way of choosing sizes and tokens, and runs added to it."""

    isoflop: IsoFlopDesign | None = None
    """Every size at every budget."""
    grid: GridDesign | None = None
    """Every size on every number of tokens."""
    zipped: ZipDesign | None = Field(default=None, alias="zip")
    """The first size on the first number of tokens, and so on."""
    listed: Annotated[tuple[ListedRuns, ...], Several] | None = Field(default=None, alias="list")
    """Run by run."""
    auto: AutoDesign | None = None
    """Sizes, budgets and seeds chosen for a total cost."""
    added: tuple[AddedRuns, ...] = ()
    """Further runs, by hand or by rounds of `sweeper run`."""

    @model_validator(mode="before")
    @classmethod
    def _exactly_one(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        kinds = ("isoflop", "grid", "zip", "list", "auto")
        given = [key for key in value if key in kinds]
        if len(given) > 1:
            expected = f"a second design beside {given[0]}; expected exactly one"
            raise wrong(expected, given[1], at_key=True)
        if not given and set(value) <= {"added"}:
            raise wrong(f"expected exactly one of {', '.join(kinds)}")
        if given and value[given[0]] is None:
            raise wrong("expected the sizes and budgets or tokens of the design", given[0])
        return value


class EvaluationChoice(Part):
    """The fixed validation set that scores every trial."""

    sequences: Annotated[Count, Field(ge=4)] = 1024
    """Two halves, each with a standard error of its own."""
    seed: Seed = 0
    """Seed of noise levels and noise, shared by all trials."""


@checked
class LimitsChoice(Limits):
    """`limits` in a sweep file, whose limit on FLOPs is one on the whole plan."""

    flops: Annotated[Number, Field(gt=0)] = Limits.flops
    """Training FLOPs of the whole sweep."""
    wall_s: Annotated[Seconds, Field(gt=0)] = Field(default=Limits.wall_s, alias="wall")
    """Time of one run of the driver, such as 2h."""
    n_trials: Annotated[
        float,
        written(lambda value: math.inf if value is None else parse_count(value), WrittenCount),
        Field(ge=1),
    ] = Field(default=Limits.n_trials, alias="trials")
    """Trials of the whole sweep."""
    device_hours: Annotated[Number, Field(gt=0)] = Limits.device_hours
    """Hours of GPUs, or of cores where there are none."""
    cost: Annotated[Number, Field(gt=0)] = Limits.cost
    """Of these at resources.price_per_hour."""


class Sweep(Part):
    """A whole sweep file."""

    name: FolderName
    """Also the name of the results folder."""
    description: str = ""
    """Shown in the report."""
    corpus: CorpusChoice
    backbone: BackboneName = "gidd"
    """The network of arXiv 2512.10858, or dit, that of arXiv 2602.15014."""
    series: dict[Slug, Series]
    """One frontier each, by label."""
    design: Design
    ask: AskChoice | None = None
    """With it, `sweeper run` adds runs in rounds until the answer is narrow enough."""
    train: Train = Train()
    evaluation: EvaluationChoice = EvaluationChoice()
    resources: ResourceChoice = ResourceChoice()
    limits: LimitsChoice = LimitsChoice()
    retry: RetryChoice = RetryChoice()
    keep: Annotated[KeepChoice, written(of_word, KeepModels | KeepChoice)] = KeepChoice()
    """Whose trained weights stay in the results folder."""
    tune: TuneChoice = TuneChoice()
    """How `sweeper tune` measures laws for it."""
    law_files: dict[str, LawFile] = Field(default_factory=dict)
    """Contents of the files that `laws` names; read from there where they are not written here."""

    @property
    def goes_on(self) -> bool:
        """Whether rounds may follow its design."""
        return self.ask is not None or self.brackets

    @property
    def brackets(self) -> bool:
        """Whether rounds bracket the open budgets of every series."""
        if self.design.auto is not None:
            return self.ask is not None
        return self.design.isoflop is not None and self.design.isoflop.on_unbracketed == "extend"

    @property
    def checkpoints_kept_until(self) -> KeptUntil:
        """How long checkpoints stay from which longer trials may go on."""
        match self.resources.keep_checkpoints:
            case "auto":
                return "complete" if self.goes_on else "published"
            case "never":
                return "published"
            case "always":
                return "always"

    @model_validator(mode="after")
    def _consistent(self) -> "Sweep":
        if not self.series:
            raise wrong("expected at least one label: {family: …}", "series")
        if self.limits.cost < math.inf and self.resources.price_per_hour is None:
            raise wrong("expected resources.price_per_hour beside it", "limits", "cost")
        entries: tuple[tuple[str, Sequence[ListedRuns | AddedRuns]], ...] = (
            ("list", self.design.listed or ()),
            ("added", self.design.added),
        )
        for key, of_key in entries:
            for i, entry in enumerate(of_key):
                for j, label in enumerate(entry.series):
                    if label not in self.series:
                        below = (j,) if len(entry.series) > 1 else ()
                        hint = expected_one_of(label, self.series)
                        raise wrong(hint, "design", key, i, "series", *below)
        for key, label in self.ask.named_labels() if self.ask else ():
            if label not in self.series:
                raise wrong(expected_one_of(label, self.series), "ask", key)
        return self


@dataclass(frozen=True)
class LoadedSweep:
    """A sweep and the file it came from."""

    sweep: Sweep
    document: SweepDocument


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> LoadedSweep:
    """The sweep file at `path` with `--set` overrides applied; raises ConfigError."""
    return validated(with_law_files(apply_overrides(read_document(path), overrides)))


def validated(document: SweepDocument) -> LoadedSweep:
    """The sweep that a document describes; raises ConfigError with every problem of the schema."""
    try:
        return LoadedSweep(Sweep.model_validate(document.value), document)
    except pydantic.ValidationError as error:
        raise ConfigError(document.describe(problems(error, Sweep))) from error
