"""What `precision: auto` means: bfloat16 autocast for the widths at which it is faster.

The choice is part of a trial's identity. It depends on the machine that plans: a CPU without
bfloat16 arithmetic would emulate it slowly.
"""

import contextlib
import math
from pathlib import Path

CPU_WIDTH = 24
"""On one core of a CPU with bfloat16 instructions, a training step of 16 × 64 tokens takes 1.0,
0.9, 0.8, 0.7 and 0.5 of its float32 time at widths 16, 24, 48, 64 and 128."""

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""As `/proc/cpuinfo` calls the instructions on x86 and Arm."""


def bfloat16_from_width(*, has_gpu: bool) -> float:
    """The width from which bfloat16 is faster; infinite where it never is."""
    if has_gpu:
        return 0
    return CPU_WIDTH if BFLOAT16_FLAGS & cpu_flags() else math.inf


def cpu_flags() -> set[str]:
    """Instruction sets of this machine's CPU; empty where the kernel does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return set(value.split())
    return set()
