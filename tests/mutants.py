"""Deliberate errors in the mathematics, each of which some test must catch: `make mutants`.

Every mutant is one replacement in a copy of the source; the named test files then have to fail. A
mutant that survives, or whose text is no longer in the source, ends the check with exit code 1.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Mutant:
    """One error, and the tests that should notice it."""

    error: str
    module: str
    """Below `sweeper/`, without `.py`."""
    old: str
    new: str
    tests: str = "test_families_exact test_families"
    """Files below `tests/`, without folder and `.py`."""


MUTANTS = [
    # Weights.
    Mutant(
        "masked: weight 1/t dropped",
        "families/masked",
        "return self._masked_nll(logits_BLV, x0_BL, zt_BL) / per_token(t_B, x0_BL)",
        "return self._masked_nll(logits_BLV, x0_BL, zt_BL)",
    ),
    Mutant(
        "uniform: kept tokens weigh as much as others",
        "families/uniform",
        "torch.sigmoid(-log_kappa_BL), 1.0)",
        "torch.ones_like(log_kappa_BL), 1.0)",
    ),
    Mutant(
        "hybrid: masks weigh 1 rather than 1 + scale · s",
        "families/hybrid",
        "self.vocab_size, 1 + self.scale * s_BL, token_BL)",
        "self.vocab_size, 1.0, token_BL)",
    ),
    Mutant(
        "esolm: diffusion term not weighted by alpha_0",
        "families/esolm",
        "weight_B = self.alpha_0 / self._masked_share(",
        "weight_B = 1 / self._masked_share(",
        "test_families_esolm",
    ),
    # Signs.
    Mutant(
        "uniform: sign of the log-ratio of noise tokens",
        "families/uniform",
        "drop_BL, -softplus(log_kappa_BL + log_p_z_BL))",
        "drop_BL, softplus(log_kappa_BL + log_p_z_BL))",
    ),
    Mutant(
        "hybrid: scale ignored in the mixing share",
        "families/hybrid",
        "log_odds = self.scale * (torch.log1p(-t) - t.log())",
        "log_odds = torch.log1p(-t) - t.log()",
    ),
    Mutant(
        "mixing: prior subtracted",
        "families/_mixing",
        "+ self.prior()",
        "- self.prior()",
    ),
    # Masks.
    Mutant(
        "masked: every token counted, masked or not",
        "families/masked",
        "return token_nll(logits_BLV, x0_BL) * (zt_BL == self.vocab_size)",
        "return token_nll(logits_BLV, x0_BL)",
    ),
    Mutant(
        "ar: input not shifted",
        "families/ar",
        "shifted_BL = torch.cat([start_B1, x0_BL[:, :-1]], dim=1)",
        "shifted_BL = x0_BL",
    ),
    Mutant(
        "esolm: a masked token reads its own answer",
        "families/esolm",
        "earlier_LL = torch.ones_like(itself_LL).tril(-1)",
        "earlier_LL = torch.ones_like(itself_LL).tril()",
        "test_families_esolm",
    ),
    Mutant(
        "prefixes: noisy queries do not read the prompt",
        "families/_prefixes",
        "return ~clean_BL[:, :, None] | clean_BL[:, None, :]",
        "return clean_BL[:, :, None] == clean_BL[:, None, :]",
        "test_prefixes",
    ),
    Mutant(
        "prefixes: clean tokens carry a loss",
        "families/_prefixes",
        "return family.loss(reader, batch).masked_fill(batch.clean_BL, 0)",
        "return family.loss(reader, batch)",
        "test_prefixes",
    ),
    # Normalisers.
    Mutant(
        "uniform: V − 1 for V",
        "families/_mixing",
        "log_one_noise_BL = self.log_shares(t_BL)[0] - math.log(self.vocab_size)  # log(s / V)",
        "log_one_noise_BL = self.log_shares(t_BL)[0] - math.log(self.vocab_size - 1)",
    ),
    Mutant(
        "mixing: noise never repeats the token",
        "families/_mixing",
        "on_x, elsewhere = alpha + uniform / self.vocab_size, uniform * (1 - 1 / self.vocab_size)",
        "on_x, elsewhere = alpha, uniform",
    ),
    Mutant(
        "sampling: what is kept between two levels is not scaled",
        "families/_mixing",
        "stays_BL = (1 - t_BL) / (1 - s_BL)",
        "stays_BL = 1 - t_BL",
        "test_families_sampling",
    ),
    # End terms and levels.
    Mutant(
        "mixing: reconstruction left out",
        "families/_mixing",
        "start_BL = self.reconstruction_of(scores, *noise) / self.t_min",
        "start_BL = 0 * self.reconstruction_of(scores, *noise)",
    ),
    Mutant(
        "mixing: no Bayes' rule in the reconstruction",
        "families/_mixing",
        "- log_likelihood_BL + log_evidence_BL",
        "- log_likelihood_BL",
    ),
    Mutant(
        "levels: independent rather than stratified",
        "families/base",
        "return (torch.arange(n, device=rng.device) + uniform_draws((n,), rng)) / n",
        "return uniform_draws((n,), rng)",
    ),
    Mutant(
        "masked: never all tokens masked in the bound",
        "families/masked",
        ".long().clamp(max=length - 1) + 1",
        ".long().clamp(max=length - 2) + 1",
    ),
    # The head.
    Mutant(
        "head: the gradient of the sum over the vocabulary forgets the normaliser",
        "networks/head",
        "total_R1 = total_R1 + d_RV.sum(dim=-1, keepdim=True)",
        "total_R1 = 1 * total_R1",
        "test_head",
    ),
    Mutant(
        "head: rows of a doubled sequence not moved",
        "families/esolm",
        "rows_R=rows_R + rows_R // length * (n_inputs - length),",
        "rows_R=rows_R,",
        "test_head",
    ),
    # Optimiser.
    Mutant(
        "laprop: no debiasing",
        "training/laprop",
        "return 1 - (1 - beta) / (1 - beta**count)",
        "return beta",
        "test_laprop",
    ),
]


def main() -> int:
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        for mutant in MUTANTS:
            verdict = check(mutant, Path(folder))
            print(f"{verdict:8}  {mutant.error}", flush=True)  # noqa: T201 (a command)
            if verdict != "caught":
                survivors.append(mutant)
    print(f"{len(MUTANTS) - len(survivors)} of {len(MUTANTS)} mutants caught")  # noqa: T201
    return 1 if survivors else 0


def check(mutant: Mutant, folder: Path) -> str:
    """`caught`, `survived`, or `stale` where the text to replace is not there exactly once."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    for name in ("sweeper", "analysis", "tests", "pyproject.toml"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
    path = copy / "sweeper" / f"{mutant.module}.py"
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        return "stale"
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    files = [str(path) for name in mutant.tests.split() for path in copy.rglob(f"{name}.py")]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
    ended = subprocess.run(command, cwd=copy, capture_output=True, env={"PYTHONPATH": str(copy)})
    # 1: tests failed. Anything else (a syntax error, no tests) says nothing of the mutant.
    return {0: "survived", 1: "caught"}.get(ended.returncode, "stale")


if __name__ == "__main__":
    sys.exit(main())
