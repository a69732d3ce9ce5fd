"""Peak memory and time of the loss of one sequence, from hidden rows to all gradients.

    PYTHONPATH=.:tests/support python tests/bench/bench_loss.py

Each case has a process of its own, and its peak is that of the memory the system gave it. Targets
are 1.3 times what bfloat16 logits of the rows that bear loss need; half of them do in `masked`.
Beside each stands the plain path, through all logits. The gradient of the head is in the peak, so
the width is small: at any width all ways need it.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from bench_lines import Line, say, say_machine
from loss_alone import HeadAlone, half_noisy

from sweeper.families import load_family

VOCAB_SIZE, SEQ_LEN = 131_072, 2048
TARGET = 1.3
MIB = 2**20
FAMILIES = ("ar", "masked", "uniform", "hybrid")


def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def measured(name: str, path: str, width: int) -> dict[str, float]:
    """Peak bytes over what was there, bytes of bfloat16 logits, and seconds."""
    torch.set_num_threads(1)
    both_passes(name, path, width, 64)  # loads what a first call loads
    return both_passes(name, path, width, VOCAB_SIZE)


def both_passes(name: str, path: str, width: int, vocab_size: int) -> dict[str, float]:
    family = load_family(name, vocab_size=vocab_size)
    head = HeadAlone.drawn(vocab_size, width, SEQ_LEN)
    batch = half_noisy(family, vocab_size, SEQ_LEN)
    rows_R = batch.scored_rows()
    n_rows = SEQ_LEN if rows_R is None else len(rows_R)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # VmHWM starts again
    before, started_s = peak_bytes(), time.perf_counter()
    loss_BL = family.loss(head if path == "chunks" else head.all_logits, batch)
    torch.autograd.backward(loss_BL.mean())
    return {
        "peak": peak_bytes() - before,
        "logits": 2.0 * vocab_size * n_rows,
        "seconds": time.perf_counter() - started_s,
    }


def main() -> None:
    """Print a line for each family and path."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--case", nargs=2, metavar=("FAMILY", "PATH"))
    options = parser.parse_args()
    if options.case:
        name, path = options.case
        say(json.dumps(measured(name, path, options.width)))
        return
    say_machine(f"torch {torch.__version__}")
    say(f"V = {VOCAB_SIZE:,}, L = {SEQ_LEN:,}, width {options.width}, bfloat16")
    for name in FAMILIES:
        for path in ("all logits", "chunks"):
            words = [sys.executable, __file__, "--width", str(options.width), "--case", name, path]
            result = subprocess.run(words, check=True, capture_output=True, text=True)
            found = json.loads(result.stdout)
            remark = f"{found['peak'] / MIB:,.0f} MiB of {found['logits'] / MIB:,.0f}"
            target = TARGET if path == "chunks" else None
            ratio = found["peak"] / found["logits"]
            say(f"{Line(f'{name}, {path}', ratio, target, 'x', remark)}, {found['seconds']:.1f} s")


if __name__ == "__main__":
    main()
