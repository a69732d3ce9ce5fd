"""The sweep file's schema: what a person chooses, and nothing that follows from it.

`load_sweep` reads, checks and reports every problem of the schema at once, each with its position.
What needs the corpus or a family (steps, vocabulary, options of a family) the planner checks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import Field, model_validator

from sweeper.errors import ConfigError
from sweeper.sweepfile.choices.corpus import CorpusChoice
from sweeper.sweepfile.choices.design import Design, ListedRuns
from sweeper.sweepfile.choices.question import AddedRuns, AskChoice
from sweeper.sweepfile.choices.resources import (
    KeepChoice,
    LimitsChoice,
    ResourceChoice,
    RetryChoice,
    of_word,
)
from sweeper.sweepfile.choices.training import Series, Train
from sweeper.sweepfile.choices.tune import TuneChoice
from sweeper.sweepfile.document import SweepDocument, apply_overrides, read_document
from sweeper.sweepfile.fields import Count, FolderName, Part, Seed, Slug, written, wrong
from sweeper.sweepfile.law_file import LawFile
from sweeper.sweepfile.messages import problems
from sweeper.sweepfile.named_laws import with_law_files
from sweeper.sweepfile.problems import expected_one_of
from sweeper.trials.ladder import BackboneName
from sweeper.trials.plan import KeptUntil
from sweeper.trials.resources import KeepModels


class EvaluationChoice(Part):
    """The fixed validation set that scores every trial."""

    sequences: Annotated[Count, Field(ge=4)] = 1024
    """Two halves, each with a standard error of its own."""
    seed: Seed = 0
    """Seed of noise levels and noise, shared by all trials."""


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
