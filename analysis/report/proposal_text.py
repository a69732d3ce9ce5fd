"""Proposed runs as a table, and as a fragment to paste into a sweep file."""

from analysis import notation
from analysis.answers.propose import Proposal, Proposals
from analysis.report.text import short, warning_line

_SYMBOLS = {"params": "N*", "tokens": "D*", "loss": "L*"}


def proposals_text(found: Proposals) -> str:
    """Ranked table, what it costs, a fragment of YAML, then the warnings."""
    lines = [_headline(found)]
    if found.proposals:
        lines.append(
            f"  {'':>2}  {'series':12} {'size':>7} {'tokens':>7} {'FLOPs':>9}  {'interval':8}  why"
        )
    lines += [_line(rank, proposal) for rank, proposal in enumerate(found.proposals, start=1)]
    if found.n_more:
        lines.append(f"  and {found.n_more} more that would bracket a budget (--number)")
    if found.proposals:
        cost = sum(proposal.run.flops for proposal in found.proposals)
        lines += [f"  together {cost:.3g} FLOPs as separate runs", "", fragment(found).rstrip(), ""]
    return "\n".join([*lines, *(warning_line(warning) for warning in found.warnings)])


def fragment(found: Proposals) -> str:
    """A `design` with the proposed runs: what was trained before stays in the results."""
    runs = []
    for run in (proposal.run for proposal in found.proposals):
        budget = "" if run.budget_flops is None else f", budget: {run.budget_flops:g}"
        tokens = notation.count(run.tokens)
        # In full, as some rungs differ by 0.2 %.
        size = f"{run.params:.0f}"
        runs.append(f"    - {{series: {run.family}, size: {size}, tokens: {tokens}{budget}}}")
    return "\n".join(["design:", "  list:", *runs]) + "\n"


def _headline(found: Proposals) -> str:
    families = ", ".join(found.request.families)
    if not found.proposals:
        return f"{families}: no run to propose"
    if found.target_flops is None:
        return f"runs that would bracket open budgets of {families}:"
    interval = found.request.interval
    if interval == "multiplier":
        baseline, against = found.request.families
        quantity = f"the multiplier of {against} over {baseline}"
    else:
        quantity = f"{_SYMBOLS[interval]} of {families}"
    return f"runs to shrink the interval of {quantity} at {found.target_flops:.3g} FLOPs:"


def _line(rank: int, proposal: Proposal) -> str:
    run = proposal.run
    width = "" if proposal.width is None else f"×{proposal.width:.2f}"
    return (
        f"  {rank:>2}  {run.family:12} {short(run.params):>7} {short(run.tokens):>7} "
        f"{run.flops:9.3g}  {width:8}  {proposal.why}"
    )
