# Runs jobs with grpcio, Python's published client, as ../node/run.js does in Node: the first
# line of standard input has the jobs, and each observation is a line of standard output.
# probe_pb2 is generated from ../e2epb/probe.proto.

import base64
import hashlib
import json
import sys
import threading
import time

import grpc
import probe_pb2

KINDS = {"ServerStream": "unary_stream", "ClientStream": "stream_unary", "Bidi": "stream_stream"}
channels = {}  # kept, as in a program


def channel(address):
    if address not in channels:
        options = [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
        channels[address] = grpc.insecure_channel(address.removeprefix("http://"), options=options)
    return channels[address]


def text(value):
    return base64.b64encode(value).decode().rstrip("=") if isinstance(value, bytes) else value


def collect(pairs):
    out = {}
    for name, value in pairs or ():
        out.setdefault(name, []).append(text(value))
    return out


def metadata(fields):
    for field in fields:
        binary = field["name"].endswith("-bin")
        yield field["name"], base64.b64decode(field.get("bytes") or "") if binary else field.get("value", "")


def request(job, n):
    size = job["requests"][n].get("bytes", 0)
    payload = (bytes((i * 31 + 7) % 256 for i in range(256)) * (size // 256 + 1))[:size]
    return probe_pb2.Request(sequence=n, text=job["requests"][n].get("text", ""), payload=payload)


class Turns:
    """Says how many replies have come, to requests that wait for them."""

    def __init__(self):
        self.replies = 0
        self.over = False
        self.changed = threading.Condition()

    def tell(self, over=False):
        with self.changed:
            self.replies += not over
            self.over = self.over or over
            self.changed.notify_all()

    def wait(self, replies):
        with self.changed:
            self.changed.wait_for(lambda: self.over or self.replies >= replies)


def requests(job, turns):
    turns.wait(job["replies_first"])
    for n in range(len(job["requests"])):
        if job["ping_pong"]:
            turns.wait(n)
        yield request(job, n)
    if job["ping_pong"]:
        turns.wait(len(job["requests"]))


def took(seen, reply):
    seen["replies"].append({
        "sequence": reply.sequence, "text": reply.text, "received": reply.received,
        "bytes": len(reply.payload), "sha256": hashlib.sha256(reply.payload).hexdigest(),
    })
    if reply.metadata:
        seen["metadata"] = {
            f.name: [text(v) if f.name.endswith("-bin") else v.decode() for v in f.values] for f in reply.metadata
        }


def run(job):
    seen = {"client": job["client"], "scenario": job["scenario"], "id": job["id"], "replies": []}
    kind = KINDS.get(job["method"], "unary_unary")
    call = getattr(channel(job["address"]), kind)(
        "/culvert.e2e.v1.Probe/" + job["method"], probe_pb2.Request.SerializeToString, probe_pb2.Reply.FromString
    )
    began = time.monotonic()
    turns = Turns()
    sent = requests(job, turns) if kind.startswith("stream") else request(job, 0)
    options = {"metadata": list(metadata(job["metadata"])), "timeout": (job["timeout_ms"] or job["patience_ms"]) / 1000}
    cancelled = False
    running = call(sent, **options) if kind.endswith("stream") else call.future(sent, **options)
    try:
        for reply in running if kind.endswith("stream") else [running.result()]:
            took(seen, reply)
            turns.tell()
            if len(seen["replies"]) == job["cancel_after"]:
                cancelled = running.cancel()
    except grpc.RpcError:
        pass  # the status says it
    except grpc.FutureCancelledError:
        pass  # likewise
    turns.tell(over=True)
    seen["header"] = collect(running.initial_metadata())
    seen["trailer"] = collect(running.trailing_metadata())
    seen["code"], seen["message"] = running.code().value[0], running.details()
    seen["cancelled"] = bool(cancelled) and seen["code"] == 1
    seen["details_bin"] = seen["trailer"].get("grpc-status-details-bin", [""])[0]
    seen["millis"] = round((time.monotonic() - began) * 1000)
    return seen


for job in json.loads(sys.stdin.readline()):
    print(json.dumps(run(job)), flush=True)
