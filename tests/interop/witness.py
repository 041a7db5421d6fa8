"""A witness after C2SP tlog-witness: add-checkpoint, and the monitoring checkpoint. In memory; for tests.

    python3 witness.py NAME LOG_VKEY      prints its vkey, then its URL, and serves until it is killed
"""

import hashlib
import http.server
import sys
import threading
import time

from c2sp import COSIGNATURE, Checkpoint, Key, Note, Refused, Signer, b64, check_consistency, number, require
from c2sp import unbase64


class Answer(Exception):
    def __init__(self, status, body="", kind="text/plain; charset=utf-8"):
        super().__init__(status)
        self.status, self.body, self.kind = status, body, kind


class Witness:
    def __init__(self, name, logs):
        self.signer = Signer(name, COSIGNATURE)
        self.logs = {key.name: key for key in logs}
        self.heads = {}  # by origin: (checkpoint, note with our line)
        self.lock = threading.Lock()

    def add_checkpoint(self, body):
        try:
            old, proof, note = parse_add_checkpoint(body)
            checkpoint = Checkpoint(note.text)
        except (Refused, UnicodeDecodeError) as error:
            raise Answer(400, f"{error}\n") from error
        key = self.logs.get(checkpoint.origin)
        if key is None:
            raise Answer(404)
        try:
            require(note.verify([key]), "no signature of the log")
        except Refused as error:
            raise Answer(403, f"{error}\n") from error
        if old > checkpoint.size:
            raise Answer(400)
        with self.lock:
            head = self.heads.get(checkpoint.origin)
            if old != (head[0].size if head else 0):
                raise Answer(409, f"{head[0].size if head else 0}\n", "text/x.tlog.size")
            try:
                empty = hashlib.sha256(b"").digest()
                require(checkpoint.size or checkpoint.root == empty, "an empty tree of another root")
                check_consistency(old, head[0].root if head else empty, checkpoint.size, checkpoint.root, proof)
            except Refused as error:
                raise Answer(422, f"{error}\n") from error
            line = self.signer.line(checkpoint.text, int(time.time()))
            ours = "".join(text for name, key_id, _, text in note.lines if (name, key_id) == (key.name, key.id))
            self.heads[checkpoint.origin] = checkpoint, checkpoint.text + "\n" + ours + line
        return line

    def monitored(self, path):
        with self.lock:
            for origin, (_, note) in self.heads.items():
                if path == f"/{hashlib.sha256(origin.encode()).hexdigest()}/checkpoint":
                    return note
        raise Answer(404)


def parse_add_checkpoint(body):
    head, separator, note = body.decode().partition("\n\n")
    require(separator, "no empty line")
    lines = head.split("\n")
    require(lines[0].startswith("old "), "no old size line")
    require(len(lines) <= 64, "more than 63 hashes")
    proof = [unbase64(line) for line in lines[1:]]
    require(all(len(hash_) == 32 for hash_ in proof), "a hash of another length")
    return number(lines[0][4:]), proof, Note(note)


def add_checkpoint_body(old, proof, note):
    return "".join([f"old {old}\n", *(b64(hash_) + "\n" for hash_ in proof), "\n", note])


def serve(witness):
    """Gives a server on a free port of loopback, which serves in a thread."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, make):
            try:
                status, body, kind = 200, make(), "text/plain; charset=utf-8"
            except Answer as answer:
                status, body, kind = answer.status, answer.body, answer.kind
            raw = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path != "/add-checkpoint":
                return self.answer(lambda: witness.monitored(""))
            return self.answer(lambda: witness.add_checkpoint(body))

        def do_GET(self):
            self.answer(lambda: witness.monitored(self.path))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


if __name__ == "__main__":
    this = Witness(sys.argv[1], [Key.parse(vkey) for vkey in sys.argv[2:]])
    _, url = serve(this)
    print(this.signer.key, url, sep="\n", flush=True)
    threading.Event().wait()
