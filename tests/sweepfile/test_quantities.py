"""Numbers as people write them."""

import math

import pytest

from sweeper.sweepfile.quantities import (
    MAX_MAGNITUDE,
    parse_bytes,
    parse_count,
    parse_number,
    parse_seconds,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e15", 1e15),
        ("1E15", 1e15),
        ("3e-4", 3e-4),
        ("1e+3", 1000),
        ("20K", 20_000),
        ("20k", 20_000),
        ("10M", 10_000_000),
        ("2.3M", 2_300_000),
        ("1.1M", 1_100_000),
        ("1.5B", 1_500_000_000),
        ("7G", 7_000_000_000),
        ("2T", 2_000_000_000_000),
        ("20%", 0.2),
        ("150%", 1.5),
        ("1_000", 1000),
        (" 5 ", 5),
        ("-5", -5),
        (".5", 0.5),
        ("0", 0),
        (7, 7),
        (0.25, 0.25),
    ],
)
def test_numbers_are_read_exactly(text: object, number: float) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("12:30", "base 60"),
        ("1:20:30.5", "base 60"),
        ("010", "octal"),
        ("-08", "octal"),
        ("0x1F", "decimal"),
        ("0b1", "decimal"),
        ("on", "true or false"),
        ("No", "true or false"),
        (True, "true or false"),
        ("inf", "finite"),
        ("-.inf", "finite"),
        ("NaN", "finite"),
        (math.inf, "finite"),
        (math.nan, "finite"),
        ("1e999", "finite"),
        ("1,000", "commas"),
        ("10m", "M for millions"),
        ("10b", "upper case"),
        ("12h", "duration"),
        ("10 M", "space"),
        ("1e41", "at most"),
        (10**400, "at most"),
        ("9" * 100_000, "finite"),
        ("", "a number"),
        ("ten", "a number"),
        ("1e", "a number"),
        ("--1", "a number"),
        ("1.2.3", "a number"),
        ("1٣", "a number"),
        (".٣", "a number"),
        ("10KM", "a number"),
        ("10 % ", "space"),
        (None, "a number"),
        ([1], "a number"),
        ({}, "a number"),
    ],
)
def test_what_is_no_number_is_refused_with_the_reason(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^expected ") as caught:
        parse_number(value)
    assert reason in str(caught.value)


def test_the_largest_magnitude_is_allowed() -> None:
    assert parse_number(MAX_MAGNITUDE) == MAX_MAGNITUDE


@pytest.mark.parametrize(("value", "count"), [("1e3", 1000), (3.0, 3), ("2.3M", 2_300_000)])
def test_counts_may_be_written_as_numbers(value: object, count: int) -> None:
    assert parse_count(value) == count
    assert type(parse_count(value)) is int


def test_large_counts_are_exact() -> None:
    assert parse_count(2**60 + 1) == 2**60 + 1


@pytest.mark.parametrize("value", ["1.5", "100%", "1.0001K", 0.5, True, "x"])
def test_what_is_no_count_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^expected "):
        parse_count(value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("12h", 43_200), ("1h30m", 5400), ("1.5d", 129_600), ("0s", 0)],
)
def test_durations_are_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("value", ["90", 7200, "12:30", "-3s", "5min", "h", "", "1e3s", True, None])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration with its unit"):
        parse_seconds(value)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("500MB", 500_000_000),
        ("2.3 GB", 2_300_000_000),
        ("1GiB", 2**30),
        ("7B", 7),
        ("64kB", 64_000),
    ],
)
def test_bytes_are_read_with_their_unit(text: object, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["1e9", "2XB", "GB", "", None, True, "-1GB", "1,5GB"])
def test_bytes_that_are_none_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected bytes with a unit"):
        parse_bytes(text)
