"""What `auto` means for batch size, learning rates, warmup, the end of a schedule and precision.

The laws are the pooled ones of arXiv 2512.10858, fitted over 10^9 to 10^11 tokens with batches of
16 thousand to 2 million. Below that range they extrapolate; a sweep that matters should tune and
name its own values. `analysis/tables/published_laws.csv` has them, too; a test compares the two.
"""

import math

from sweeper.store.submission import cpu_info
from sweeper.trials.ladder import BackboneName

BATCH_EXPONENT = 0.8225  # B* = 10^-2.4 · D^0.8225
RATE_EXPONENT = 0.3412  # eta* = 10^-2.06 · B^0.3412
MIN_BATCH_SEQUENCES = 8  # fewer leave stratified noise levels too coarse and the hardware idle
DIT_LEARNING_RATE = 2e-4  # peak of all tensors and sizes of arXiv 2602.15014 at 524,288 tokens
WARMUP_STEPS = 2000  # of both studies' large runs
WARMUP_SHARE = 0.1  # largest share of the steps before the first observation that warmup may take
COOLDOWN_SHARE = 0.2  # share of the run in the cooldowns of arXiv 2512.10858
MIN_LEARNING_RATE_RATIO = 0.1  # end of the cosine of arXiv 2602.15014, in units of its peak

# Rate of embeddings, head, norms, biases and sinks at every batch size. The study trains them at
# 0.02 eta, which is this at the eta = 0.3 it was tuned at, and lets them follow eta down as the
# batch shrinks. At 1024 tokens a batch (eta = 0.09, 25K parameters, 1e11 and 3e11 FLOPs) holding
# them here instead lowered the masked bound by 0.1 nats per token.
AUXILIARY_LEARNING_RATE = 6e-3

# On one core of a CPU with bfloat16 instructions, a training step of 16 × 64 tokens takes 1.2, 1.1,
# 1.0, 0.9 and 0.8 of its float32 time at widths 24, 40, 64, 88 and 128.
BFLOAT16_CPU_WIDTH = 72
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # instructions of x86 and Arm


def batch_sequences(tokens: float, seq_len: int) -> int:
    """Sequences per step for a run of `tokens` tokens."""
    # Pooled law, both in tokens.
    batch_tokens: float = 10**-2.4 * tokens**BATCH_EXPONENT
    return max(MIN_BATCH_SEQUENCES, round(batch_tokens / seq_len))


def learning_rate(batch_tokens: float, backbone: BackboneName = "gidd") -> float:
    """Base learning rate for a batch, rounded to three digits."""
    if backbone == "dit":  # has no such law: its study trains every size at one rate
        return DIT_LEARNING_RATE
    # Pooled law, B in tokens.
    return float(f"{10**-2.06 * batch_tokens**RATE_EXPONENT:.3g}")


def warmup_steps(first_observation_step: int) -> int:
    """Warmup for a run first observed after a number of steps."""
    return max(1, min(WARMUP_STEPS, round(WARMUP_SHARE * first_observation_step)))


def bfloat16_from_width(*, has_gpu: bool) -> float:
    """The width from which bfloat16 autocast is faster; infinite where it never is."""
    # It decides `precision`, a part of a trial's identity, by the machine that plans: a CPU without
    # bfloat16 arithmetic would emulate it slowly.
    if has_gpu:
        return 0
    instruction_sets = cpu_info("flags", "Features").split()  # none where the kernel does not tell
    return math.inf if BFLOAT16_FLAGS.isdisjoint(instruction_sets) else BFLOAT16_CPU_WIDTH
