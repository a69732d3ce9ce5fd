"""Synthetic sources of exactly known entropy, so that bounds can be checked against the truth.

    synthetic:markov?vocab=16&order=1&concentration=0.3&tokens=2000000&seed=0
    synthetic:iid?vocab=16&concentration=0.3&tokens=2000000&seed=0

Every parameter may be left out; those above are the defaults.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sweeper.data.tokens import VALIDATION_SHARE, SplitTokens, token_dtype
from sweeper.errors import IN_BRACKETS, DataError, did_you_mean

KINDS = ("markov", "iid")

SLOTS = 4096  # transition probabilities are multiples of one over this
_MAX_CONTEXTS = 1024
_TABLE, _START, _DRAWS = 0, 1, 2  # one random stream for each purpose


@dataclass(frozen=True)
class SyntheticSource:
    """A Markov chain over tokens; `iid` is one whose contexts share a distribution."""

    kind: Literal["markov", "iid"] = "markov"
    vocab: int = 16
    order: int = 1
    """Tokens of context that the next token depends on."""
    concentration: float = 0.3
    """Of the Dirichlet distribution of the next token; small: predictable, large: uniform."""
    tokens: int = 2_000_000
    """Training and validation tokens together."""
    seed: int = 0

    def __post_init__(self) -> None:
        _require("vocab", self.vocab, 2, 256)
        _require("order", self.order, 1, 10)
        _require("concentration", self.concentration, 1e-3, 1e6)
        _require("tokens", self.tokens, 100, 100_000_000)
        _require("seed", self.seed, 0, 2**63)
        if self.kind == "iid" and self.order != 1:
            raise ValueError("order applies to markov only: leave it out")
        if self.vocab**self.order > _MAX_CONTEXTS:
            raise ValueError(
                f"vocab^order is {self.vocab**self.order} contexts, expected at most "
                f"{_MAX_CONTEXTS}: lower vocab or order"
            )


def parse_synthetic(source: str) -> SyntheticSource:
    """The source that a string `synthetic:KIND?name=value&...` names; raises DataError."""
    kind, _, query = source.removeprefix("synthetic:").partition("?")
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS, IN_BRACKETS)
        raise DataError(
            f"corpus {source!r}: unknown synthetic source {kind!r}{hint}; "
            "expected synthetic:markov or synthetic:iid"
        )
    values: dict[str, int | float] = {}
    for pair in query.split("&") if query else []:
        name, value = _parameter(source, pair)
        if name in values:
            raise DataError(f"corpus {source!r}: {name} is given twice; keep one")
        values[name] = value
    try:
        return dataclasses.replace(SyntheticSource(kind=kind), **values)  # type: ignore[arg-type]
    except ValueError as error:
        raise DataError(f"corpus {source!r}: {error}") from error


def generate(source: SyntheticSource) -> SplitTokens:
    """The tokens of a source."""
    slots_CV = transition_slots(source)
    tokens = _sampled(source, slots_CV, stationary_distribution(slots_CV))
    cut = len(tokens) - round(VALIDATION_SHARE * len(tokens))
    return SplitTokens(tokens[:cut], tokens[cut:], source.vocab, bytes_per_token=None)


# Shapes: C contexts (the last `order` tokens as digits in base V, newest last), V vocabulary.


def transition_slots(source: SyntheticSource) -> np.ndarray:
    """Next-token probabilities in units of 1/4096: (C, V) integers that sum to 4096 per row."""
    rng = np.random.Generator(_bits(source, _TABLE))
    n_contexts = source.vocab**source.order
    n_drawn = 1 if source.kind == "iid" else n_contexts
    drawn = rng.dirichlet(np.full(source.vocab, source.concentration), size=n_drawn)
    # At least one slot each, so that the chain is ergodic and its entropy rate known.
    slots = 1 + np.floor(drawn * (SLOTS - source.vocab)).astype(np.int64)
    slots[np.arange(n_drawn), slots.argmax(axis=1)] += SLOTS - slots.sum(axis=1)
    return np.asarray(np.repeat(slots, n_contexts // n_drawn, axis=0))


def stationary_distribution(slots_CV: np.ndarray) -> np.ndarray:
    """Long-run share of each context, (C,): the solution of pi P = pi with sum 1."""
    n_contexts, vocab = slots_CV.shape
    context, token = np.divmod(np.arange(n_contexts * vocab), vocab)
    P = np.zeros((n_contexts, n_contexts))
    P[context, (context * vocab + token) % n_contexts] = slots_CV.ravel() / SLOTS
    # One of the C equations follows from the others; the sum replaces it.
    equations = P.T - np.eye(n_contexts)
    equations[-1] = 1.0
    return np.asarray(np.linalg.solve(equations, np.eye(n_contexts)[-1]))


def _sampled(source: SyntheticSource, slots_CV: np.ndarray, stationary_C: np.ndarray) -> np.ndarray:
    """Tokens of the chain, begun in its stationary distribution."""
    n_contexts, vocab = slots_CV.shape
    rng = np.random.Generator(_bits(source, _START))
    start = int(rng.choice(n_contexts, p=stationary_C / stationary_C.sum()))
    # next_context[context * 4096 + slot]: one uniform slot picks the next token exactly.
    token_of_slot = np.repeat(np.tile(np.arange(vocab), n_contexts), slots_CV.ravel())
    context_of_slot = np.repeat(np.arange(n_contexts), SLOTS)
    next_context = ((context_of_slot * vocab + token_of_slot) % n_contexts).tolist()

    def draws() -> Iterator[int]:
        bits = _bits(source, _DRAWS)
        for first in range(0, source.tokens, 1 << 20):
            n_draws = min(1 << 20, source.tokens - first)
            yield from (bits.random_raw(n_draws) // np.uint64(2**64 // SLOTS)).tolist()

    def step(context: int, slot: int) -> int:
        following: int = next_context[context * SLOTS + slot]
        return following

    contexts = itertools.accumulate(draws(), step, initial=start)
    walk = np.fromiter(contexts, dtype=np.int32, count=source.tokens + 1)
    return np.asarray(walk[1:] % vocab, dtype=token_dtype(vocab))


def _bits(source: SyntheticSource, purpose: int) -> np.random.Philox:
    return np.random.Philox(np.random.SeedSequence([source.seed, purpose]))


def _parameter(source: str, pair: str) -> tuple[str, int | float]:
    name, equals, text = pair.partition("=")
    fields = dataclasses.fields(SyntheticSource)
    known = {field.name: field.type for field in fields if field.name != "kind"}
    if not equals or name not in known:
        raise DataError(
            f"corpus {source!r}: cannot use {pair!r}{did_you_mean(name, known, IN_BRACKETS)}; "
            f"expected name=value, with a name of {', '.join(known)}"
        )
    try:
        return name, int(text) if known[name] is int else float(text)
    except ValueError as error:
        expected = (
            "a whole number such as 2000000" if known[name] is int else "a number such as 0.3"
        )
        raise DataError(f"corpus {source!r}: {name} is {text!r}, expected {expected}") from error


def _require(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}, expected {least:g} to {most:g}")
