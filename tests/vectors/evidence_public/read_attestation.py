"""Takes google/go-tpm-tools' attest.Attestation (protobuf) apart, as its attest.proto and tpm.proto have it.

    read_attestation.py ATTESTATION LOG JSON      writes the event log, and the AK with its quotes and their PCRs

Fields: Attestation 1 AK public area, 2 quotes, 3 event log; Quote 1 TPMS_ATTEST, 2 TPMT_SIGNATURE, 3 PCRs;
PCRs 1 algorithm, 2 map of PCR (1) to value (2).
"""
import base64
import json
import sys

BANKS = {4: "sha1", 11: "sha256", 12: "sha384"}


def fields(data):
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            octet = data[at]
            at += 1
            value |= (octet & 0x7F) << shift
            shift += 7
            if octet < 0x80:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
        elif key & 7 == 2:
            size = number()
            yield key >> 3, data[at:at + size]
            at += size
        else:
            raise ValueError(f"field of wire type {key & 7}")


def quote(data):
    of = dict(fields(data))
    values = {}
    for field, value in fields(of[3]):
        if field == 2:
            entry = dict(fields(value))
            values[entry.get(1, 0)] = entry[2].hex()
    text = {name: base64.b64encode(of[field]).decode() for name, field in (("quote", 1), ("signature", 2))}
    return BANKS[dict(fields(of[3]))[1]], text | {"pcrs": [values[pcr] for pcr in sorted(values)]}


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        attestation = list(fields(file.read()))
    with open(sys.argv[2], "wb") as file:
        file.write(next(value for field, value in attestation if field == 3))
    out = {"ak_public": base64.b64encode(next(value for field, value in attestation if field == 1)).decode(),
           "quotes": dict(quote(value) for field, value in attestation if field == 2)}
    with open(sys.argv[3], "w") as file:
        json.dump(out, file, indent=1)
        file.write("\n")
