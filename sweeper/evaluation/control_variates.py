"""Negative log-likelihoods of tokens by counts of training tokens, for control variates.

They say how hard a token is to predict. Any function of the text would leave the bound right; this
one explains most of its noise.

Shapes: N sequences, L tokens each, V vocabulary, K n-gram NLLs of each token.
"""

from dataclasses import dataclass

import numpy as np

from sweeper.data.corpus import Corpus

COUNTED_TOKENS = 2**22
COUNTED_PIECES = 64
"""Training tokens that are counted, in pieces spread evenly over the corpus."""

PRIOR_COUNT = 2.0
"""How often, before any count, a token is taken to have been followed by an average one."""


@dataclass(frozen=True)
class NgramCounts:
    """Negative log-probabilities of tokens and pairs, nats."""

    token_V: np.ndarray
    pair_VV: np.ndarray | None
    """−log p(left, right); none where the table would be too large."""

    def nll(self, ids_NL: np.ndarray) -> np.ndarray:
        """−log p of each token alone, given the one before and given the one after: (N, L, K).

        A token without that neighbour counts as alone; without pairs, K = 1.
        """
        alone_NL: np.ndarray = self.token_V[ids_NL]
        if self.pair_VV is None:
            return alone_NL[..., None]
        pair_NP = self.pair_VV[ids_NL[:, :-1], ids_NL[:, 1:]]
        # −log p(right | left) = −log p(left, right) + log p(left), and so from the other side.
        after_left_NL, before_right_NL = alone_NL.copy(), alone_NL.copy()
        after_left_NL[:, 1:] = pair_NP - alone_NL[:, :-1]
        before_right_NL[:, :-1] = pair_NP - alone_NL[:, 1:]
        return np.stack([alone_NL, after_left_NL, before_right_NL], axis=-1)


def count_ngrams(corpus: Corpus) -> NgramCounts:
    """Count training tokens, and their pairs where a V × V table is small, as for bytes."""
    n_vocab, tokens = corpus.tokens.vocab_size, corpus.tokens.train
    tokens = spread_pieces(tokens).astype(np.int64)
    counts_V = np.bincount(tokens, minlength=n_vocab) + 1.0
    p_V = counts_V / counts_V.sum()
    token_V = -np.log(p_V).astype(np.float32)
    if n_vocab > 2048:
        return NgramCounts(token_V, None)
    pairs = tokens[:-1] * n_vocab + tokens[1:]
    n_VV = np.bincount(pairs, minlength=n_vocab**2).reshape(n_vocab, n_vocab)
    n_V1 = n_VV.sum(axis=1, keepdims=True)
    # p(right | left), with PRIOR_COUNT pseudo-counts shared out like p_V.
    p_next_VV = (n_VV + PRIOR_COUNT * p_V) / (n_V1 + PRIOR_COUNT)
    return NgramCounts(token_V, -np.log(p_V[:, None] * p_next_VV).astype(np.float32))


def spread_pieces(tokens: np.ndarray) -> np.ndarray:
    """All of a few tokens; of many, pieces spread evenly, whose seams count as neighbours."""
    if len(tokens) <= COUNTED_TOKENS:
        return tokens
    length = COUNTED_TOKENS // COUNTED_PIECES
    starts = np.arange(COUNTED_PIECES) * (len(tokens) - length) // (COUNTED_PIECES - 1)
    return np.concatenate([tokens[start : start + length] for start in starts])
