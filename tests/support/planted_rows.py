"""Rows of `samples` whose fronts are known."""

Row = dict[str, object]

STEPS = (1, 2, 4, 8, 16, 32, 64)
TEMPERATURES = (0.8, 1.0, 1.2)


def row(series: str, **values: object) -> Row:
    return {
        "trial_id": series, "series": series, "family": series, "sampler": "ancestral",
        "n_steps": 1, "temperature": 1.0, "top_p": 1.0,
        "context_tokens": 64, "n_sequences": 128, "judge": "ar-3f9a", "judge_revision": "77aa",
        "unigram_entropy_nats": 3.0, "ngram_entropy_nats_per_token": 1.5,
        "tokens_per_s": 100.0, "tokens_per_s_spread": 0.03,
        "cross_entropy_nats_per_token": 2.0, "cross_entropy_stderr_nats_per_token": 0.01,
        "judge_divergence_nats_per_token": 0.5,
    } | values  # fmt: skip


def diffusion(series: str, times_faster: float, *, speed: float = 6400.0) -> list[Row]:
    """Quality 0.2 + 1 / n at n steps of the slower one, rising with temperature and entropy."""
    return [
        row(
            series,
            n_steps=n,
            temperature=temperature,
            unigram_entropy_nats=3.0 + (temperature - 1.0),
            tokens_per_s=speed / n,
            judge_divergence_nats_per_token=0.2 + (1 / (times_faster * n)) + temperature - 1.0,
        )
        for n in STEPS
        for temperature in TEMPERATURES
    ]


def control(name: str, divergence: float) -> Row:
    return row(
        name,
        trial_id="",
        family="control",
        tokens_per_s=None,
        judge_divergence_nats_per_token=divergence,
        cross_entropy_nats_per_token=0.1,
    )
