"""Law files that a sweep file names: they become part of the document.

So their mistakes are told with their own positions, and the sweep file as stored with the results,
or as sent to a cluster, can be planned again alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from sweeper.errors import ConfigError
from sweeper.sweepfile.document import SweepDocument, read_document
from sweeper.sweepfile.fields import AUTO, TUNED
from sweeper.sweepfile.strict_yaml.values import Value

LAW_FILES = "law_files"
"""Key of a sweep file that holds the contents of law files by the names it uses for them."""


def with_law_files(document: SweepDocument) -> SweepDocument:
    """The document with every law file that it names and does not hold; raises ConfigError."""
    content = document.root.content
    assert isinstance(content, dict)  # read_document has refused everything else
    held = content.get(LAW_FILES, Value({}, document.root.at, document.root.at))
    if not isinstance(held.content, dict):
        return document  # which the schema refuses
    read: dict[str, Value] = {}
    for name in _named_laws(document.root):
        if isinstance(name.content, str) and name.content not in {"", *held.content, *read}:
            path = Path(document.source).parent / Path(name.content).expanduser()
            try:
                read[name.content] = read_document(path, "law file", "version: 1").root
            except ConfigError as error:
                if path.is_file():
                    raise
                raise name.at.error(f"laws: {error}; `sweeper tune` makes one") from error
    if not read:
        return document
    files = replace(held, content={**held.content, **read})
    root = replace(document.root, content={**content, LAW_FILES: files})
    return replace(document, root=root, added_key=LAW_FILES)


def without_laws(document: SweepDocument) -> SweepDocument:
    """The document as it is before anything is tuned: `auto` in the place of every law."""
    return replace(document, root=_with_trains(document.root, _untuned))


def named_law_files(document: SweepDocument) -> tuple[str, ...]:
    """Law files that a document names, each once."""
    names = (value.content for value in _named_laws(document.root))
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str) and name))


def _untuned(train: dict[str, Value]) -> dict[str, Value]:
    kept = {key: value for key, value in train.items() if key not in ("laws", "max_horizon_bias")}
    for key in ("learning_rate", "batch_tokens"):
        if key in kept and kept[key].content == TUNED:
            kept[key] = replace(kept[key], content=AUTO, text=AUTO)
    return kept


def _with_trains(value: Value, change: Callable[[dict[str, Value]], dict[str, Value]]) -> Value:
    """The tree with every mapping under a key `train` changed."""
    if isinstance(value.content, tuple):
        return replace(value, content=tuple(_with_trains(v, change) for v in value.content))
    if not isinstance(value.content, dict):
        return value
    content = {}
    for key, below in value.content.items():
        below = _with_trains(below, change)
        if key == "train" and isinstance(below.content, dict):
            below = replace(below, content=change(below.content))
        content[key] = below
    return replace(value, content=content)


def _named_laws(value: Value) -> Iterator[Value]:
    """Every value of `laws` under a key `train`, in the order of the file."""
    if isinstance(value.content, tuple):
        for item in value.content:
            yield from _named_laws(item)
    elif isinstance(value.content, dict):
        for key, below in value.content.items():
            if key == "train" and isinstance(below.content, dict) and "laws" in below.content:
                yield below.content["laws"]
            yield from _named_laws(below)
