"""What a `synthetic:` source, which is known exactly, says of samples.

Shapes: N sequences, L tokens, C contexts (the last `order` tokens as digits, newest last), V
vocabulary.
"""

from dataclasses import dataclass

import numpy as np

from sweeper.data.synthetic import (
    SLOTS,
    parse_synthetic,
    stationary_distribution,
    transition_slots,
)


@dataclass(frozen=True)
class Truth:
    """The exact distribution of a source."""

    order: int
    p_CV: np.ndarray
    """Next-token probabilities."""
    log_start: tuple[np.ndarray, ...]
    """log p of the first k tokens, as a number in base V, for k = 1 … order."""
    runs_CV: np.ndarray
    """p of each run of order + 1 tokens."""

    @classmethod
    def of(cls, source: str) -> "Truth":
        """Of a source `synthetic:…`; raises DataError for another."""
        parsed = parse_synthetic(source)
        slots_CV = transition_slots(parsed)
        p_CV, stationary_C = slots_CV / SLOTS, stationary_distribution(slots_CV)
        heads = [
            np.log(stationary_C.reshape(parsed.vocab**k, -1).sum(axis=1))
            for k in range(1, parsed.order + 1)
        ]
        return cls(parsed.order, p_CV, tuple(heads), stationary_C[:, None] * p_CV)

    @property
    def entropy_rate(self) -> float:
        """Nats per token (Cover & Thomas, Elements of Information Theory, eq. 4.27)."""
        return float(-(self.runs_CV * np.log(self.p_CV)).sum())

    def entropy(self, length: int) -> float:
        """Nats per token of sequences of this length, which begin at random in the chain."""
        k = min(self.order, length)
        start = self.log_start[k - 1]
        return float((length - k) * self.entropy_rate - (np.exp(start) * start).sum()) / length

    def nats(self, ids_NL: np.ndarray, n_prefix: int = 0) -> np.ndarray:
        """−log p of each sequence given its prefix, (N,)."""
        total_N = -self._log_p(ids_NL)
        return total_N + self._log_p(ids_NL[:, :n_prefix]) if n_prefix else total_N

    def run_counts(self, ids_NL: np.ndarray) -> np.ndarray:
        """How often each run of order + 1 tokens is in the sequences, (C, V)."""
        V = self.p_CV.shape[1]
        runs = np.lib.stride_tricks.sliding_window_view(ids_NL, self.order + 1, axis=1)
        index = runs @ (V ** np.arange(self.order, -1, -1))
        return np.bincount(index.ravel(), minlength=self.p_CV.size).reshape(self.p_CV.shape)

    def run_divergence(self, ids_NL: np.ndarray) -> float:
        """KL rate of the chain of this order that has the runs of the samples, nats per token.

        What samples do over longer runs is not seen: it could only add. The plug-in estimate is
        too large by about (cells seen − contexts seen) / 2n (Miller and Madow), which is taken off.
        """
        n_CV = self.run_counts(ids_NL)
        n_C1, n = n_CV.sum(axis=1, keepdims=True), n_CV.sum()
        seen = n_CV > 0
        q_CV = np.divide(n_CV, n_C1, out=np.ones_like(self.p_CV), where=n_C1 > 0)
        plug_in = (n_CV * np.where(seen, np.log(np.where(seen, q_CV, 1) / self.p_CV), 0)).sum() / n
        return float(plug_in - (seen.sum() - (n_C1 > 0).sum()) / (2 * n))

    def run_js(self, ids_NL: np.ndarray) -> float:
        """Jensen–Shannon divergence of runs of order + 1 tokens, nats, plug-in."""
        q_CV = self.run_counts(ids_NL) / max(self.run_counts(ids_NL).sum(), 1)
        middle_CV = (q_CV + self.runs_CV) / 2
        sides = [
            (a * np.log(np.where(a > 0, a / middle_CV, 1))).sum() for a in (q_CV, self.runs_CV)
        ]
        return float(sum(sides) / 2)

    def _log_p(self, ids_NL: np.ndarray) -> np.ndarray:
        V, k = self.p_CV.shape[1], min(self.order, ids_NL.shape[1])
        ids_NL = ids_NL.astype(np.int64)
        log_p_N = self.log_start[k - 1][ids_NL[:, :k] @ (V ** np.arange(k - 1, -1, -1))]
        if ids_NL.shape[1] > self.order:
            windows = np.lib.stride_tricks.sliding_window_view(ids_NL, self.order + 1, axis=1)
            context = windows[..., :-1] @ (V ** np.arange(self.order - 1, -1, -1))
            log_p_N = log_p_N + np.log(self.p_CV[context, windows[..., -1]]).sum(axis=1)
        return np.asarray(log_p_N)
