"""A second implementation of the C2SP texts that Sallyport's log follows: signed-note, tlog-checkpoint, tlog-tiles,
tlog-cosignature, tlog-proof, tlog-policy, and the tree of RFC 6962. Written from those texts alone (README.md).

What does not hold raises Refused.
"""

import base64
import binascii
import hashlib
import re
import unicodedata

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519, ECDSA, COSIGNATURE = 0x01, 0x02, 0x04
NUMBER = re.compile(r"0|[1-9][0-9]*")


class Refused(Exception):
    """Something is not as the texts say."""


def require(holds, why):
    if not holds:
        raise Refused(why)


def number(text):
    require(NUMBER.fullmatch(text), f"not a decimal number: {text!r}")
    return int(text)


def unbase64(text):
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Refused(f"not base64: {text!r}") from error
    require(base64.b64encode(raw).decode() == text, f"base64 in another spelling: {text!r}")
    return raw


def b64(raw):
    return base64.b64encode(raw).decode()


def sha256(raw):
    return hashlib.sha256(raw).digest()


# ---- signed-note


def check_name(name):
    require(name and "+" not in name, f"not a key name: {name!r}")
    require(not any(c.isspace() or unicodedata.category(c) == "Zs" for c in name), f"spaces in {name!r}")


class Key:
    """A verifier's key: `<name>+<hash>+<keydata>`."""

    def __init__(self, name, kind, material):
        check_name(name)
        self.name, self.kind, self.material = name, kind, material
        if kind == ECDSA:
            self.public = serialization.load_der_public_key(material)
            require(isinstance(self.public, ec.EllipticCurvePublicKey), "not a key for ECDSA")
            self.id = sha256(material)[:4]
        else:
            require(kind in (ED25519, COSIGNATURE), f"a type of signature that is not known: {kind}")
            require(len(material) == 32, "not a key for Ed25519")
            self.public = Ed25519PublicKey.from_public_bytes(material)
            self.id = sha256(name.encode() + b"\n" + bytes([kind]) + material)[:4]

    @classmethod
    def parse(cls, text):
        parts = text.split("+", 2)
        require(len(parts) == 3, f"not a vkey: {text!r}")
        data = unbase64(parts[2])
        require(data, "a vkey without a key")
        key = cls(parts[0], data[0], data[1:])
        require(key.id.hex() == parts[1], "a vkey whose id is another key's")
        return key

    def __str__(self):
        return f"{self.name}+{self.id.hex()}+{b64(bytes([self.kind]) + self.material)}"

    def verify(self, text, signature):
        """Gives the time of a cosignature, None of another signature."""
        message, time = text.encode(), None
        try:
            if self.kind == ECDSA:
                self.public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
                return None
            if self.kind == COSIGNATURE:
                require(len(signature) == 72, "a cosignature of another length")
                time = int.from_bytes(signature[:8], "big")
                require(0 < time < 1 << 63, "a cosignature without a time")
                message, signature = cosigned_message(text, time), signature[8:]
            self.public.verify(signature, message)
        except InvalidSignature as error:
            raise Refused(f"a signature of {self.name} that does not verify") from error
        return time


class Signer:
    """A key that signs, made here."""

    def __init__(self, name, kind=ED25519):
        self.private = Ed25519PrivateKey.generate()
        raw = self.private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.key = Key(name, kind, raw)

    def line(self, text, time=None):
        if self.key.kind == COSIGNATURE:
            raw = time.to_bytes(8, "big") + self.private.sign(cosigned_message(text, time))
        else:
            raw = self.private.sign(text.encode())
        return f"\u2014 {self.key.name} {b64(self.key.id + raw)}\n"


def cosigned_message(text, time):
    return f"cosignature/v1\ntime {time}\n{text}".encode()


class Note:
    """A signed note: its text, and its lines as (name, key id, signature, line)."""

    def __init__(self, raw):
        try:
            note = raw.decode() if isinstance(raw, bytes) else raw
        except UnicodeDecodeError as error:
            raise Refused("not UTF-8") from error
        require(not any(ord(c) < 0x20 and c != "\n" for c in note), "control characters in a note")
        at = note.rfind("\n\n")
        require(at >= 0, "a note without signatures")
        self.text, rest = note[: at + 1], note[at + 2 :]
        self.lines = signature_lines(rest)

    def verify(self, keys):
        """Gives {key: time} of those whose line is there; a line of theirs that does not verify refuses the note."""
        known = {(key.name, key.id): key for key in keys}
        found = {}
        for name, key_id, signature, _ in self.lines:
            key = known.get((name, key_id))
            if key is None:
                continue
            require(key not in found, f"two signatures of {name}")
            found[key] = key.verify(self.text, signature)
        return found


def signature_lines(text):
    require(text.endswith("\n") and text != "\n", "signature lines without their end")
    lines = []
    for line in text[:-1].split("\n"):
        parts = line.split(" ")
        require(len(parts) == 3 and parts[0] == "\u2014", f"not a signature line: {line!r}")
        check_name(parts[1])
        raw = unbase64(parts[2])
        require(len(raw) > 4, "a signature without its bytes")
        lines.append((parts[1], raw[:4], raw[4:], line + "\n"))
    return lines


# ---- tlog-checkpoint


class Checkpoint:
    def __init__(self, text):
        lines = text.split("\n")
        require(len(lines) >= 4 and lines[-1] == "", "not the text of a checkpoint")
        self.text, self.origin, self.size, self.root = text, lines[0], number(lines[1]), unbase64(lines[2])
        require(self.origin, "a checkpoint of no log")
        require(len(self.root) == 32, "a root of another length")
        require(all(lines[3:-1]), "an empty extension line")


# ---- RFC 6962


def leaf_hash(entry):
    return sha256(b"\0" + entry)


def node_hash(left, right):
    return sha256(b"\1" + left + right)


def split(size):
    return 1 << (size - 1).bit_length() - 1


def tree_root(leaves):
    """The Merkle Tree Hash over leaf hashes."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha256(b"")
    k = split(len(leaves))
    return node_hash(tree_root(leaves[:k]), tree_root(leaves[k:]))


def inclusion_proof(index, leaves):
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return inclusion_proof(index, leaves[:k]) + [tree_root(leaves[k:])]
    return inclusion_proof(index - k, leaves[k:]) + [tree_root(leaves[:k])]


def consistency_proof(old, leaves, whole=True):
    if old == len(leaves):
        return [] if whole else [tree_root(leaves)]
    k = split(len(leaves))
    if old <= k:
        return consistency_proof(old, leaves[:k], whole) + [tree_root(leaves[k:])]
    return consistency_proof(old - k, leaves[k:], False) + [tree_root(leaves[:k])]


def root_of_inclusion(index, size, leaf, proof):
    """The root to which a leaf leads. The proof is read from its end: it goes down from the root."""
    require(0 <= index < size, "an index beyond the tree")

    def down(at, width, rest):
        if width == 1:
            require(not rest, "an inclusion proof that is too long")
            return leaf
        require(rest, "an inclusion proof that is too short")
        k = split(width)
        if at < k:
            return node_hash(down(at, k, rest[:-1]), rest[-1])
        return node_hash(rest[-1], down(at - k, width - k, rest[:-1]))

    return down(index, size, proof)


def check_consistency(old, old_root, size, root, proof):
    require(old <= size, "a tree that became smaller")
    if old == 0:
        require(not proof, "a proof from the empty tree")
        return
    if old == size:
        require(not proof and old_root == root, "two roots of one size")
        return

    def down(m, width, rest, whole):  # gives (the old subtree's hash, the new one's)
        if m == width:
            if whole:
                require(not rest, "a consistency proof that is too long")
                return old_root, old_root
            require(len(rest) == 1, "a consistency proof of another length")
            return rest[0], rest[0]
        require(rest, "a consistency proof that is too short")
        k = split(width)
        if m <= k:
            was, new = down(m, k, rest[:-1], whole)
            return was, node_hash(new, rest[-1])
        was, new = down(m - k, width - k, rest[:-1], False)
        return node_hash(rest[-1], was), node_hash(rest[-1], new)

    was, new = down(old, size, proof, True)
    require(was == old_root and new == root, "a consistency proof that does not hold")


# ---- tlog-tiles

WIDTH = 256


def tile_path(level, index, width=WIDTH):
    """`level` may be "entries"."""
    groups = [f"{index % 1000:03}"]
    while index >= 1000:
        index //= 1000
        groups.insert(0, f"x{index % 1000:03}")
    return f"tile/{level}/{'/'.join(groups)}" + ("" if width == WIDTH else f".p/{width}")


def tiles_of(size):
    """(level, index, width) of every tile of a tree, lower levels first."""
    level = 0
    while size >> 8 * level:
        full, rest = divmod(size >> 8 * level, WIDTH)
        yield from ((level, index, WIDTH) for index in range(full))
        if rest:
            yield level, full, rest
        level += 1


def parse_bundle(raw, width):
    entries = []
    while raw:
        length = int.from_bytes(raw[:2], "big")
        require(len(raw) >= 2 + length, "an entry bundle that ends early")
        entries.append(raw[2 : 2 + length])
        raw = raw[2 + length :]
    require(len(entries) == width, f"{len(entries)} entries in a bundle of {width}")
    return entries


# ---- tlog-policy


class Policy:
    def __init__(self, text):
        self.logs, self.witnesses, self.quorum = [], {}, None
        self.rules = {}  # of a name: how many of which others
        for line in text.split("\n"):
            words = re.split("[ \t]+", line.strip(" \t"))
            if words == [""] or words[0].startswith("#"):
                continue
            self._take(words, line)
        require(self.quorum is not None, "a policy without a quorum")
        for keys in (self.logs, list(self.witnesses.values())):
            require(len({key.material for key in keys}) == len(keys), "one key twice in a policy")

    def _take(self, words, line):
        if words[0] == "log" and len(words) in (2, 3):
            self.logs.append(Key.parse(words[1]))
        elif words[0] == "witness" and len(words) in (3, 4):
            self._define(words[1])
            self.witnesses[words[1]] = Key.parse(words[2])
            require(self.witnesses[words[1]].kind == COSIGNATURE, "a witness's key that does not cosign")
        elif words[0] == "group" and len(words) > 3:
            self._define(words[1])
            members = words[3:]
            require(len(set(members)) == len(members), "a member twice in a group")
            require(all(m in self.witnesses or m in self.rules for m in members), f"unknown member: {line}")
            count = {"any": 1, "all": len(members)}.get(words[2]) or number(words[2])
            require(1 <= count <= len(members), f"a group of an impossible threshold: {line}")
            self.rules[words[1]] = count, members
        elif words[0] == "quorum" and len(words) == 2 and self.quorum is None:
            known = words[1] == "none" or words[1] in self.witnesses or words[1] in self.rules
            require(known, f"unknown quorum: {line}")
            self.quorum = words[1]
        else:
            raise Refused(f"not a line of a policy: {line!r}")

    def _define(self, name):
        require(name != "none" and name not in self.witnesses and name not in self.rules, f"{name} twice")

    def _holds(self, name, cosigned):
        if name == "none":
            return True
        if name in self.witnesses:
            return self.witnesses[name] in cosigned
        count, members = self.rules[name]
        return sum(self._holds(member, cosigned) for member in members) >= count

    def check(self, raw):
        """Verifies a cosigned checkpoint; gives it, and how many witnesses cosigned it."""
        note = Note(raw)
        checkpoint = Checkpoint(note.text)
        logs = [key for key in self.logs if key.name == checkpoint.origin]
        require(logs, f"a log that the policy does not know: {checkpoint.origin}")
        require(note.verify(logs), "the log's signature is missing")
        cosigned = note.verify(self.witnesses.values())
        require(self._holds(self.quorum, cosigned), f"no quorum: {len(cosigned)} witnesses cosigned")
        return checkpoint, len(cosigned)


# ---- tlog-proof


def check_proof(raw, leaf, policy):
    """Verifies a tlog-proof of a leaf hash; gives its index and checkpoint."""
    lines = raw.split("\n")
    require(lines.pop(0) == "c2sp.org/tlog-proof@v1", "not a tlog-proof")
    if lines[0].startswith("extra "):
        unbase64(lines.pop(0)[6:])
    require(lines[0].startswith("index "), "a proof without its index")
    index, proof = number(lines.pop(0)[6:]), []
    while lines and lines[0]:
        proof.append(unbase64(lines.pop(0)))
        require(len(proof[-1]) == 32, "a hash of another length")
    require(lines, "a proof without its checkpoint")
    checkpoint, _ = policy.check("\n".join(lines[1:]))
    require(root_of_inclusion(index, checkpoint.size, leaf, proof) == checkpoint.root, "the leaf is not there")
    return index, checkpoint
