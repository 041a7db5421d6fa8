"""Reads binary IMA lists a second time, with struct and hashlib alone: how pcrs.json came about.

    read_list.py LIST TEMPLATE-DIGEST-BYTES [ENTRIES]    prints the length of so many entries, and PCR 10 after them
"""
import hashlib
import json
import struct
import sys

BANKS = ("sha1", "sha256", "sha384", "sha512")


def entries(data, size):
    at = 0
    while at < len(data):
        digest = data[at + 4:at + 4 + size]
        at += 4 + size
        (length,) = struct.unpack_from("<I", data, at)
        name = data[at + 4:at + 4 + length]
        at += 4 + length
        if name == b"ima":
            (length,) = struct.unpack_from("<I", data, at + 20)
            content = data[at:at + 20] + data[at + 24:at + 24 + length].ljust(256, b"\0")
            at += 24 + length
        else:
            (length,) = struct.unpack_from("<I", data, at)
            content = data[at + 4:at + 4 + length]
            at += 4 + length
        yield at, digest, content


def pcr10(data, size, count):
    own = {bank: bytes(hashlib.new(bank).digest_size) for bank in BANKS}
    padded = dict(own)
    end = 0
    for number, (at, digest, content) in enumerate(entries(data, size)):
        if number == count:
            break
        end = at
        violation = digest == bytes(size)
        for bank in BANKS:
            width = hashlib.new(bank).digest_size
            ours = b"\xff" * width if violation else hashlib.new(bank, content).digest()
            short = b"\xff" * 20 if violation else hashlib.sha1(content).digest()
            own[bank] = hashlib.new(bank, own[bank] + ours).digest()
            padded[bank] = hashlib.new(bank, padded[bank] + short.ljust(width, b"\0")).digest()
    return {"bytes": end, "own": {b: v.hex() for b, v in own.items()}, "padded": {b: v.hex() for b, v in padded.items()}}


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        content = file.read()
    print(json.dumps(pcr10(content, int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None), indent=1))
