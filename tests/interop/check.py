"""Verifies a log of static files, and proofs of its leaves, by the C2SP texts.

    python3 check.py log DIR             checkpoint, checkpoints/, tile/, policies/ of an export: no MANIFEST, no body
    python3 check.py proof POLICY LEAF PROOF      files; LEAF has the bytes of the leaf
"""

import pathlib
import sys

from c2sp import WIDTH, Policy, Refused, check_consistency, check_proof, consistency_proof, inclusion_proof
from c2sp import leaf_hash, parse_bundle, require, root_of_inclusion, tile_path, tiles_of, tree_root

LEAF_BYTES = 66


class StaticLog:
    """A log as a web server shows it. A client reads only the tiles that a checkpoint it has verified owes."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)

    def get(self, path):
        file = self.directory / path
        require(file.is_file() and not file.is_symlink(), f"{path} is not there")
        return file.read_bytes()

    def tile(self, level, index, width, entry_size=32):
        """A partial tile, or as much of the full one where that took its place."""
        path = tile_path(level, index, width)
        if (self.directory / path).is_file():
            raw = self.get(path)
            if level != "entries":
                require(len(raw) == 32 * width, f"{path} has another width")
            return raw
        require(width != WIDTH, f"{path} is not there")
        return self.get(tile_path(level, index))[: entry_size * width]

    def root(self, size):
        """The root of the tree at a size, of its tiles alone; and its leaf hashes."""
        leaves, below = [], {}
        for level, index, width in tiles_of(size):
            raw = self.tile(level, index, width)
            hashes = [raw[at : at + 32] for at in range(0, len(raw), 32)]
            if level == 0:
                leaves += hashes
            else:  # each hash is that of a full tile below
                for at, hash_ in enumerate(hashes):
                    require(below[level - 1, index * WIDTH + at] == hash_, f"{tile_path(level, index, width)}: hash {at}")
            if width == WIDTH:
                below[level, index] = tree_root(hashes)
        require(len(leaves) == size, "tiles of another size")
        return tree_root(leaves), leaves


def check_log(directory):
    log = StaticLog(directory)
    policies = [Policy(log.get(f"policies/{version}").decode()) for version in
                range(1, 1 + len(list((log.directory / "policies").iterdir())))]
    newest, witnesses = policies[-1].check(log.get("checkpoint"))
    root, leaves = log.root(newest.size)
    require(root == newest.root, "the tiles do not lead to the checkpoint")

    # Every archived checkpoint: under one of the policies, later ones under no earlier; consistent with the newest.
    version, archived = 0, sorted(int(file.name) for file in (log.directory / "checkpoints").iterdir())
    for size in archived:
        require(size <= newest.size, "a checkpoint beyond the newest")
        note = log.get(f"checkpoints/{size}")
        while True:
            try:
                old, _ = policies[version].check(note)
                break
            except Refused:
                version += 1
                if version == len(policies):
                    raise
        require(old.size == size and old.origin == newest.origin, f"checkpoints/{size} is another")
        own_root, _ = log.root(size)
        require(own_root == old.root, f"checkpoints/{size}: its tiles do not lead to it")
        check_consistency(size, old.root, newest.size, newest.root, consistency_proof(size, leaves))
    require(archived and archived[-1] == newest.size, "the newest checkpoint is not among checkpoints/")

    for index in range(0, newest.size, WIDTH):
        width = min(WIDTH, newest.size - index)
        entries = parse_bundle(log.get(tile_path("entries", index // WIDTH, width)), width)
        for at, entry in enumerate(entries, index):
            require(len(entry) == LEAF_BYTES, f"leaf {at} has {len(entry)} bytes")
            require(leaf_hash(entry) == leaves[at], f"leaf {at} is not that of its tile")
    for index in {0, newest.size // 2, newest.size - 1}:
        proof = inclusion_proof(index, leaves)
        require(root_of_inclusion(index, newest.size, leaves[index], proof) == newest.root, "inclusion")
    return f"{newest.size} leaves, {len(archived)} checkpoints, {len(policies)} policies, {witnesses} witnesses"


def main(arguments):
    read = lambda path: pathlib.Path(path).read_bytes()
    try:
        if len(arguments) == 2 and arguments[0] == "log":
            print(check_log(arguments[1]))
        elif len(arguments) == 4 and arguments[0] == "proof":
            policy, leaf, proof = read(arguments[1]).decode(), read(arguments[2]), read(arguments[3]).decode()
            index, checkpoint = check_proof(proof, leaf_hash(leaf), Policy(policy))
            print(f"leaf {index} of {checkpoint.size}")
        else:
            print(__doc__)
            return 2
    except Refused as refused:
        print(f"refused: {refused}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
