"""Reading sweep files: what is YAML, where things are, and what `--set` does to them."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeper.errors import ConfigError
from sweeper.sweepfile.document import MAX_PROBLEMS_SHOWN, apply_overrides, read_document
from sweeper.sweepfile.problems import Problem, expected_one_of
from sweeper.sweepfile.strict_yaml.compose import MAX_NODES
from sweeper.sweepfile.strict_yaml.text_file import MAX_BYTES
from sweeper.sweepfile.strict_yaml.values import MAX_SNIPPET_WIDTH


def document_of(text: str, folder: Path) -> Any:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return read_document(path)


def refusal(data: bytes, folder: Path) -> str:
    path = folder / "x.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_document(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e15", 1e15),
        ("3e-4", 3e-4),
        ("1.0e18", 1e18),
        ("-7", -7),
        ("0", 0),
        ("0.5", 0.5),
        ("true", True),
        ("~", None),
        (".inf", float("inf")),
        ("010", "010"),
        ("0o10", "0o10"),
        ("12:30", "12:30"),
        ("on", "on"),
        ("no", "no"),
        ("2024-01-01", "2024-01-01"),
        ("10M", "10M"),
        ("1_000", "1_000"),
        ("1e999", "1e999"),
        ("1٣", "1٣"),
        ("9" * 30, 1e30),
        ('"1e15"', "1e15"),
        ("'true'", "true"),
        ("|\n  two\n  lines", "two\nlines\n"),
    ],
)
def test_plain_values_are_read_as_yaml_1_2_means_them(
    text: str, value: object, tmp_path: Path
) -> None:
    read = document_of(f"key: {text}\n", tmp_path).value["key"]
    assert read == value
    assert type(read) is type(value)


def test_aliases_stand_for_what_they_name(tmp_path: Path) -> None:
    document = document_of("a: &x [1, {b: 2}]\nc: *x\n", tmp_path)
    assert document.value == {"a": [1, {"b": 2}], "c": [1, {"b": 2}]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "x.yaml:1:1  found an empty file"),
        (b"\n\n# only a comment\n", "found an empty file"),
        (b"---\n...\n", "found an empty file"),
        (b"- a\n- b\n", "found a list — expected a mapping"),
        (b"just words", "found just words — expected a mapping"),
        (b"42", "found 42"),
        (b"name: a\n\x00\x01\x02", "x.yaml:2:1  found the character U+0000"),
        (b"name: \x1b[31mred", "U+001B"),
        (b"\x7fELF\x02\x01\x01\x00" + bytes(range(256)), "which is not UTF-8"),
        (b"name: caf\xe9\n", "x.yaml:1:10  found the byte 0xe9"),
        ("name: a\n".encode("utf-16"), "found UTF-16 — expected UTF-8"),
        (b"name: a\nname: b\n", "x.yaml:2:1  duplicate key 'name'; it was first given in"),
        (b"a: {b: 1, b: 2}\n", "x.yaml:1:11  duplicate key 'b'"),
        (b"a: b: c\n", "not valid YAML"),
        (b"a: [1\n", "not valid YAML"),
        (b"a: }\n", "not valid YAML"),
        (b"%YAML 9.9\n---\na: 1\n", "not valid YAML"),
        (b"a: @b\n", "not valid YAML"),
        (b"a: 1\n\tb: 2\n", "indent with spaces, not tabs"),
        (b"a: 1\n---\nb: 2\n", "x.yaml:2:1  found a second document"),
        (b"a: !!int '3'\n", "the tag tag:yaml.org,2002:int"),
        (b"a: !mine 3\n", "the tag !mine"),
        (b"? [a]\n: b\n", "a key with parts"),
        (b"a: *b\n", "no anchor &b"),
        (b"a: &a {b: *a}\n", "inside the value"),
        (b"a: " + b"[" * 100_000, "nested deeper"),
        (b"a:\n" + b"".join(b" " * n + b"- \n" for n in range(50)), "x.yaml"),
    ],
)
def test_what_is_no_sweep_file_is_refused_with_its_place(
    data: bytes, words: str, tmp_path: Path
) -> None:
    message = refusal(data, tmp_path)
    assert "x.yaml:" in message
    assert words in message


def test_a_byte_order_mark_and_foreign_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: a\r\nb: [1,\r 2]\r\n")
    assert read_document(path).value == {"name": "a", "b": [1, 2]}


def test_an_alias_bomb_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 12):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]")
    start = time.perf_counter()
    message = refusal("\n".join(lines).encode(), tmp_path)
    assert f"more than {MAX_NODES:,}" in message
    assert time.perf_counter() - start < 5  # 10^12 values if it were expanded


def test_a_file_of_10_mb_is_refused_unread(tmp_path: Path) -> None:
    assert f"larger than {MAX_BYTES:,} bytes" in refusal(b"a: 1\n" * 2_000_000, tmp_path)


def test_too_many_values_are_refused(tmp_path: Path) -> None:
    assert f"more than {MAX_NODES:,}" in refusal(b"a: [" + b"1," * (MAX_NODES + 1), tmp_path)


def test_a_folder_is_no_sweep_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found a folder"):
        read_document(tmp_path)


def test_a_missing_file_is_named_with_its_neighbours(tmp_path: Path) -> None:
    document_of("a: 1", tmp_path)
    with pytest.raises(ConfigError, match=r"no such sweep file.*did you mean 'x\.yaml'"):
        read_document(tmp_path / "y.yaml")
    with pytest.raises(ConfigError, match=r"its folder .* does not exist"):
        read_document(tmp_path / "no" / "y.yaml")


@pytest.mark.parametrize("name", ["a\0b.yaml", "n" * 5000])
def test_an_impossible_file_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_document(tmp_path / name)


def test_a_device_is_no_sweep_file() -> None:
    with pytest.raises(ConfigError, match="regular file"):
        read_document(Path("/dev/zero"))


def test_problems_are_told_in_the_order_of_the_file_with_a_caret(tmp_path: Path) -> None:
    document = document_of("a: 1\nb:\n  c: [5, six]\n", tmp_path)
    message = document.describe(
        [Problem(("b", "c", 1), "expected a number"), Problem(("a",), "expected 2")]
    )
    path = tmp_path / "x.yaml"
    assert message.splitlines() == [
        f"{path}:1:4  a: found 1 — expected 2",
        "    1 | a: 1",
        "      |    ^",
        f"{path}:3:10  b.c.1: found six — expected a number",
        "    3 |   c: [5, six]",
        "      |          ^",
    ]


def test_a_problem_of_what_is_not_there_points_at_what_holds_it(tmp_path: Path) -> None:
    document = document_of("a: 1\nb: {c: [{d: 1}]}\n", tmp_path)
    message = document.describe([Problem(("b", "c", 0, "e", "f"), "expected less")])
    assert ":2:9  b.c.0.e.f: expected less\n" in message


def test_long_lines_are_cut_around_the_caret(tmp_path: Path) -> None:
    document = document_of(f"a: [{'1, ' * 5000}bad]\n", tmp_path)
    _, snippet, caret = document.describe([Problem(("a", 5000), "expected 1")]).splitlines()
    assert len(snippet) < MAX_SNIPPET_WIDTH + 10
    assert snippet[caret.index("^") :].startswith("bad")


def test_only_the_first_problems_are_shown(tmp_path: Path) -> None:
    document = document_of("a: 1\n", tmp_path)
    message = document.describe([Problem(("a",), f"no {n}") for n in range(MAX_PROBLEMS_SHOWN + 7)])
    assert message.endswith("… and 7 more problems")


def test_overrides_replace_and_add_values(tmp_path: Path) -> None:
    document = document_of("a: {b: [1, 2]}\nc: ~\n", tmp_path)
    changed = apply_overrides(document, ["a.b.1=3e-4", "c.d.e={f: 10M}", "a.g=", "a.b.1=5"])
    assert changed.value == {"a": {"b": [1, 5], "g": None}, "c": {"d": {"e": {"f": "10M"}}}}
    assert document.value == {"a": {"b": [1, 2]}, "c": None}


def test_a_problem_of_an_override_points_into_it(tmp_path: Path) -> None:
    document = apply_overrides(document_of("a: {b: 1}\n", tmp_path), ["a.b=[0, x]"])
    assert document.describe([Problem(("a", "b", 1), "expected 1")]).splitlines() == [
        "--set:1:9  a.b.1: found x — expected 1",
        "    1 | a.b=[0, x]",
        "      |         ^",
    ]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("a.b", "expected dotted.key=value"),
        ("=1", "expected dotted.key=value"),
        ("", "expected dotted.key=value"),
        ("a..b=1", "expected dotted.key=value"),
        ("a.b.c=1", "cannot set 'c' in 1"),
        ("l.2=1", "cannot set '2' in a list of 2"),
        ("l.-1=1", "cannot set '-1' in a list of 2"),
        ("l.x=1", "cannot set 'x' in a list of 2"),
        ("a=[1", "not valid YAML"),
        ("a={b: 1, b: 2}", "--set:1:10  duplicate key 'b'; it was first given in --set:1:4"),
        ("a=*x", "no anchor"),
        ("a=\x1b[1m", "not valid YAML"),
    ],
)
def test_a_bad_override_is_refused_where_it_stands(
    override: str, words: str, tmp_path: Path
) -> None:
    document = document_of("a: {b: 1}\nl: [1, 2]\nx: &x 1\n", tmp_path)
    with pytest.raises(ConfigError) as caught:
        apply_overrides(document, [override])
    assert "--set:1:" in str(caught.value)
    assert words in str(caught.value)


def test_the_submitted_text_is_the_file_itself_or_the_file_as_overridden(tmp_path: Path) -> None:
    text = "# mine\na: {b: 1e15}\n"
    document = document_of(text, tmp_path)
    assert document.as_submitted() == text
    changed = apply_overrides(document, ["a.c=[10M, 3e-4]\n", "a.d=on"])
    written = changed.as_submitted()
    assert "# --set a.c=[10M, 3e-4]" in written
    assert yaml.safe_load(written)["a"]["d"] == "on"
    assert document_of(written, tmp_path).value == changed.value


def test_suggestions_name_the_closest_word() -> None:
    assert expected_one_of("tokns", ["sizes", "tokens"]) == (
        "expected one of sizes, tokens; did you mean 'tokens'?"
    )
    assert expected_one_of("qqq", ["sizes"]) == "expected sizes"
