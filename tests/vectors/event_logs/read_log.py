"""Reads event logs a second time, with struct and hashlib alone: how the PCRs of some logs in pcrs.json came about.

    read_log.py LOG               prints how many events of each type there are, and the PCRs of each bank
"""
import collections
import hashlib
import json
import struct
import sys

BANKS = {4: "sha1", 11: "sha256", 12: "sha384", 13: "sha512"}
NO_ACTION = 3


def events(data):
    """Gives (PCR, type, {algorithm: digest}, event data)."""
    pcr, kind, sha1, size = struct.unpack_from("<II20sI", data)
    first = data[32:32 + size]
    yield pcr, kind, {4: sha1}, first
    at = 32 + size
    sizes = None
    if kind == NO_ACTION and first.startswith(b"Spec ID Event03\0"):
        (count,) = struct.unpack_from("<I", first, 24)
        sizes = dict(struct.unpack_from("<HH", first, 28 + 4 * i) for i in range(count))
    while at < len(data) and data[at:].strip(b"\0") and data[at:].strip(b"\xff"):
        pcr, kind = struct.unpack_from("<II", data, at)
        at += 8
        digests = {}
        if sizes is None:
            digests[4] = data[at:at + 20]
            at += 20
        else:
            (count,) = struct.unpack_from("<I", data, at)
            at += 4
            for _ in range(count):
                (algorithm,) = struct.unpack_from("<H", data, at)
                digests[algorithm] = data[at + 2:at + 2 + sizes[algorithm]]
                at += 2 + sizes[algorithm]
        (size,) = struct.unpack_from("<I", data, at)
        at += 4 + size
        if at > len(data):
            raise ValueError("cut off")
        yield pcr, kind, digests, data[at - size:at]


def replay(data):
    pcrs = {}
    locality = 0
    for pcr, kind, digests, content in events(data):
        if kind == NO_ACTION:
            if content.startswith(b"StartupLocality\0"):
                locality = content[16]
            continue
        for algorithm, digest in digests.items():
            name = BANKS.get(algorithm)
            if name is None:
                continue
            start = bytes(len(digest) - 1) + bytes([locality if pcr == 0 else 0])
            if 17 <= pcr <= 22:
                start = b"\xff" * len(digest)
            value = pcrs.setdefault(name, {}).get(str(pcr), start.hex())
            pcrs[name][str(pcr)] = hashlib.new(name, bytes.fromhex(value) + digest).hexdigest()
    return pcrs


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        log = file.read()
    kinds = collections.Counter(hex(kind) for _, kind, _, _ in events(log))
    print(json.dumps({"events": sum(kinds.values()), "types": kinds, "pcrs": replay(log)}, indent=1))
