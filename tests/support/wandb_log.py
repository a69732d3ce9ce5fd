"""Records of a `.wandb` file: a header, LevelDB's log format, protobufs of wandb in it."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER_BYTES, BLOCK_BYTES, FRAME_BYTES = 7, 32 * 1024, 7
FULL, FIRST, MIDDLE, LAST = range(1, 5)


def raw_records(path: Path) -> Iterator[bytes]:
    """The bytes of each record; raises AssertionError for a file that is torn."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, parts = HEADER_BYTES, b""
    while at < len(data):
        if BLOCK_BYTES - at % BLOCK_BYTES < FRAME_BYTES:
            at += BLOCK_BYTES - at % BLOCK_BYTES
            continue
        crc = int.from_bytes(data[at : at + 4], "little")
        n_bytes, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        at += FRAME_BYTES
        part = data[at : at + n_bytes]
        assert len(part) == n_bytes
        assert crc == zlib.crc32(bytes([kind]) + part)
        at += n_bytes
        parts = part if kind in (FULL, FIRST) else parts + part
        if kind in (FULL, LAST):
            yield parts


def read_run(path: Path) -> dict[str, Any]:
    """Run, configuration, history by step and summary of a file."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[str, Any] = {"config": {}, "history": {}, "summary": {}}
    for data in raw_records(path):
        record = Record.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            found |= {"id": run.run_id, "name": run.display_name, "group": run.run_group}
            found |= {"project": run.project, "host": run.host}
            for item in run.config.update:
                found["config"][item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
        elif kind == "history":
            values = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            found["history"][record.history.step.num] = values
        elif kind == "summary":
            for item in record.summary.update:
                name = item.key or ".".join(item.nested_key)
                found["summary"][name] = json.loads(item.value_json)
        elif kind == "exit":
            found["exit_code"] = record.exit.exit_code
    return found
