"""What W&B's offline logs hold: read back, to know from where a resumed run goes on."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from wandb.proto.wandb_internal_pb2 import Record

# Bytes of a log's header, of a block; checksum, length and type of a record.
LOG_HEADER, BLOCK, FRAME = 7, 32 * 1024, struct.Struct("<IHB")
FULL, FIRST, LAST = 1, 2, 4


def records(path: Path) -> Iterator[Record]:
    """What a W&B transaction log holds, up to where it was cut off.

    After a header come blocks of 32 KiB of LevelDB's log records (checksum, length, type, data); a
    message that is longer than the rest of its block goes on in the next.
    """
    data = path.read_bytes()
    place, message = LOG_HEADER, b""
    while len(data) - place >= FRAME.size:
        left = BLOCK - place % BLOCK
        if left < FRAME.size:
            place += left
            continue
        checksum, length, kind = FRAME.unpack_from(data, place)
        part = data[place + FRAME.size : place + FRAME.size + length]
        if len(part) < length or zlib.crc32(bytes([kind]) + part) != checksum:
            return
        place += FRAME.size + length
        message = part if kind in (FULL, FIRST) else message + part
        if kind in (FULL, LAST):
            try:
                yield Record.FromString(message)
            except DecodeError:  # parts of messages that do not belong together
                return


def steps_on_disk(folder: Path, run_id: str) -> int:
    """How many steps the offline logs of a run hold; each process that worked at it left one."""
    steps = [-1]
    for path in folder.glob(f"wandb/offline-run-*/run-{run_id}.wandb"):
        steps += [r.history.step.num for r in records(path) if r.HasField("history")]
    return max(steps) + 1
