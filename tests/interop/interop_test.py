"""The public vectors, through the second implementation; and a stranger's log at our witness and at the one here.

    SALLYPORT_WITNESS=PATH python3 interop_test.py
"""

import hashlib
import http.client
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse

try:
    import c2sp
except ImportError as missing:
    print(f"python3-cryptography: {missing}")
    sys.exit(1 if os.environ.get("SALLYPORT_REQUIRE_DEVICES") else 77)
import witness
from c2sp import Key, Note, Policy, Refused, Signer, b64, leaf_hash, tree_root

VECTORS = pathlib.Path(__file__).parent.parent / "vectors" / "ledger"


def vector(name):
    return (VECTORS / name).read_text()


def hashes(name):
    lines = vector(name).split()
    return [bytes.fromhex(line) if len(line) == 64 else c2sp.unbase64(line) for line in lines]


class Vectors(unittest.TestCase):
    def test_notes(self):
        for number in (1, 5):
            key = Key.parse(vector(f"v{number}_vkey.txt").strip())
            note = vector(f"v{number}_note.txt")
            self.assertEqual(list(Note(note).verify([key])), [key])
            changed = note.replace("e", "f", 1)
            with self.assertRaises(Refused):
                Note(changed).verify([key])
        for name in ("v1_vkey", "v2_vkey", "v4_log_vkey", "v4_witness_vkey", "v5_vkey", "ecdsa_vkey"):
            text = vector(f"{name}.txt").strip()
            self.assertEqual(str(Key.parse(text)), text)

    def test_log(self):
        entries = vector("v2_entries.txt").split()
        leaves = [leaf_hash(entry.encode()) for entry in entries]
        note = Note(vector("v2_checkpoint.txt"))
        key = Key.parse(vector("v2_vkey.txt").strip())
        self.assertIn(key, note.verify([key]))
        checkpoint = c2sp.Checkpoint(note.text)
        self.assertEqual((checkpoint.size, checkpoint.root), (len(leaves), tree_root(leaves)))
        self.assertEqual(b64(leaves[3]), vector("v2_leaf3.txt").strip())
        bundle = bytes.fromhex(vector("v2_bundle.hex").strip())
        self.assertEqual(c2sp.parse_bundle(bundle, 3), [entry.encode() for entry in entries[:3]])
        with self.assertRaises(Refused):
            c2sp.parse_bundle(bundle, 2)
        proof = hashes("v2_inclusion_3_15.txt")
        self.assertEqual(c2sp.inclusion_proof(3, leaves), proof)
        self.assertEqual(c2sp.root_of_inclusion(3, 15, leaves[3], proof), checkpoint.root)
        old_root = c2sp.unbase64(vector("v2_root5.txt").strip())
        proof = hashes("v2_consistency_5_15.txt")
        self.assertEqual(c2sp.consistency_proof(5, leaves), proof)
        c2sp.check_consistency(5, old_root, 15, checkpoint.root, proof)
        for wrong in (proof[:-1], proof + proof[-1:], proof[1:] + proof[:1]):
            with self.assertRaises(Refused):
                c2sp.check_consistency(5, old_root, 15, checkpoint.root, wrong)

    def test_add_checkpoint(self):
        one = witness.Witness("witness.example", [Key.parse(vector("v2_vkey.txt").strip())])
        text = Note(vector("v2_checkpoint.txt")).text.split("\n")
        five = c2sp.Checkpoint("\n".join([text[0], "5", vector("v2_root5.txt").strip(), ""]))
        one.heads[five.origin] = five, ""
        line = one.add_checkpoint(vector("v2_add_checkpoint.txt").encode())
        note = Note(vector("v2_checkpoint.txt") + line)
        self.assertIn(one.signer.key, note.verify([one.signer.key]))

    def test_tree(self):
        leaves = [leaf_hash(bytes.fromhex(line.strip("-"))) for line in vector("v3_leaves.txt").split()]
        for size in (6, 8):
            self.assertEqual(tree_root(leaves[:size]).hex(), vector(f"v3_root{size}.hex").strip())
        self.assertEqual(c2sp.inclusion_proof(5, leaves), hashes("v3_inclusion_5_8.txt"))
        for size in range(1, 9):
            for old in range(size + 1):
                proof = c2sp.consistency_proof(old, leaves[:size]) if old else []
                c2sp.check_consistency(old, tree_root(leaves[:old]), size, tree_root(leaves[:size]), proof)

    def test_proof(self):
        log, one = vector("v4_log_vkey.txt").strip(), vector("v4_witness_vkey.txt").strip()
        leaf = leaf_hash(bytes.fromhex(vector("v4_leaf.hex").strip()))
        proof = vector("v4_proof.txt")
        policy = Policy(f"# a comment\n log {log}\n\nwitness one\t{one}\ngroup g any one\nquorum g\n")
        self.assertEqual(c2sp.check_proof(proof, leaf, policy)[0], 3)
        for other in (proof.replace("index 3", "index 2"), proof.replace("@v1", "@v2"), proof[:-40]):
            with self.assertRaises(Refused):
                c2sp.check_proof(other, leaf, policy)
        other = Signer("other", c2sp.COSIGNATURE).key
        with self.assertRaises(Refused):
            c2sp.check_proof(proof, leaf, Policy(f"log {log}\nwitness a {one}\nwitness b {other}\n"
                                                 "group g all a b\nquorum g\n"))
        for wrong in ("", "quorum x\n", f"witness a {one}\n", f"log {log}\nlog {log}\nquorum none\n",
                      f"witness a {log}\nquorum a\n", f"witness a {one}\ngroup g 2 a\nquorum g\n"):
            with self.assertRaises(Refused, msg=wrong):
                Policy(wrong)


class Log:
    """A log of somebody else."""

    def __init__(self, origin):
        self.signer = Signer(origin)
        self.origin = origin
        self.leaves = [leaf_hash(f"{origin} {i}".encode()) for i in range(300)]

    def note(self, size, root=None, extension=""):
        root = tree_root(self.leaves[:size]) if root is None else root
        text = f"{self.origin}\n{size}\n{b64(root)}\n{extension}"
        return text + "\n" + self.signer.line(text)

    def body(self, old, size, note=None, proof=None):
        if proof is None:
            proof = c2sp.consistency_proof(old, self.leaves[:size]) if 0 < old <= size else []
        return witness.add_checkpoint_body(old, proof, note or self.note(size))


class AtAWitness:
    """What every witness answers, whoever wrote it."""

    vkey = url = None

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection(urllib.parse.urlparse(self.url).netloc, timeout=20)
        connection.request(method, path, body.encode() if isinstance(body, str) else body)
        response = connection.getresponse()
        answer = response.status, response.read().decode(), response.getheader("Content-Type")
        connection.close()
        return answer

    def add(self, body):
        return self.call("POST", "/add-checkpoint", body)

    def cosigned(self, body, note):
        """Submits, and gives the time of the one cosignature that comes back."""
        status, lines, _ = self.add(body)
        self.assertEqual(status, 200, lines)
        self.assertEqual([line[:2] for line in c2sp.signature_lines(lines)], [(self.vkey.name, self.vkey.id)])
        return Note(note + lines).verify([self.vkey])[self.vkey]

    def refused(self, status, body, told=None):
        answer = self.add(body)
        self.assertEqual(answer[0], status, answer)
        if told is not None:
            self.assertEqual(answer[1:], (told, "text/x.tlog.size"))

    def test_a_log_and_a_witness(self):
        log = self.log
        path = f"/{hashlib.sha256(log.origin.encode()).hexdigest()}/checkpoint"
        self.assertEqual(self.call("GET", path)[0], 404)
        self.refused(422, log.body(0, 0, log.note(0, bytes(32))))
        self.refused(409, log.body(3, 5), "0\n")
        self.refused(422, log.body(0, 5, proof=[bytes(32)]))
        began = int(time.time())
        self.assertGreaterEqual(self.cosigned(log.body(0, 5), log.note(5)), began)
        self.cosigned(log.body(5, 5), log.note(5))
        self.refused(409, log.body(0, 7), "5\n")
        self.refused(409, log.body(4, 7), "5\n")
        self.refused(400, log.body(9, 7))
        self.refused(422, log.body(5, 7, proof=[]))
        self.refused(422, log.body(5, 7, proof=c2sp.consistency_proof(4, log.leaves[:7])))
        self.refused(422, log.body(5, 5, log.note(5, bytes(32))))
        self.refused(422, log.body(5, 7, log.note(7, bytes(32))))
        # Who asks: an unknown log, an unknown key, a key that is known and did not sign this.
        self.refused(404, Log("unknown.example/log").body(0, 5))
        stranger = Log(log.origin)
        self.refused(403, stranger.body(5, 7))
        note = Note(log.note(7))
        self.refused(403, log.body(5, 7, log.note(7).replace(note.text, Note(log.note(6)).text)))
        # Lines of others are passed over, extension lines are cosigned as they are.
        longer = log.note(280, extension="an extension\n") + stranger.signer.line("else")
        self.cosigned(log.body(5, 280, longer), longer)
        self.cosigned(log.body(280, 300), log.note(300))
        # What does not parse.
        good = log.body(300, 300)
        for wrong in ("", "old 300\n", good.replace("old 300", "old 0300"), good.replace("old", "new"),
                      good.replace("\n\n", "\n", 1), good[:-1], good.replace("\u2014", "-"),
                      log.body(300, 300, proof=[bytes(31)]), log.body(300, 300, proof=[bytes(32)] * 64),
                      good.encode() + b"\xff\n"):
            self.refused(400, wrong)
        # For monitors: the log's line, and the cosignature.
        status, shown, _ = self.call("GET", path)
        self.assertEqual(status, 200)
        note = Note(shown)
        self.assertEqual(note.text, Note(log.note(300)).text)
        self.assertEqual(set(note.verify([log.signer.key, self.vkey])), {log.signer.key, self.vkey})
        self.assertEqual(len(note.lines), 2)
        self.assertEqual(self.call("GET", path.replace("a", "b").replace("0", "1"))[0], 404)


class AtOurWitness(AtAWitness, unittest.TestCase):
    def setUp(self):
        program = os.environ.get("SALLYPORT_WITNESS")
        self.assertTrue(program, "SALLYPORT_WITNESS is the path of sallyport-witness")
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        state, port = pathlib.Path(directory.name, "state"), pathlib.Path(directory.name, "port")
        init = subprocess.run([program, "init", "--state", state, "--name", "witness.example/w1"], check=True,
                              capture_output=True, text=True, timeout=30)
        self.vkey = Key.parse(init.stdout.split("\n")[0])
        self.log = Log("stranger.example/log")
        process = subprocess.Popen([program, "serve", "--state", state, "--log", str(self.log.signer.key),
                                    "--port-file", port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(lambda: (process.kill(), process.wait()))
        for _ in range(2000):
            if port.exists() or process.poll() is not None:
                break
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{int(port.read_text())}"


class AtTheWitnessHere(AtAWitness, unittest.TestCase):
    def setUp(self):
        self.log = Log("stranger.example/log")
        one = witness.Witness("witness.example/w2", [self.log.signer.key])
        server, self.url = witness.serve(one)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.vkey = one.signer.key


if __name__ == "__main__":
    unittest.main()
