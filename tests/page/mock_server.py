#!/usr/bin/env python3
# A stand-in for `wattle serve`: the page's own files with the server's headers, and scripted answers. For the page's test, and for looking at
# the page without a model:   python3 tests/page/mock_server.py 8080
#
# The first word of a message chooses: measured modelled below disputed unavailable replayed unsettled money noenergy markdown hostile rtl long
# slow reason busy context drop broken limit joules. "slow" never ends by itself within a test; "busy" succeeds at the second try.
# SPDX-License-Identifier: Apache-2.0
import http.server
import json
import math
import os
import re
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from mock_answers import TEXTS, energy, pieces  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "serve")
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


def policy():
    """The policy that the binary sends, read from its source so that the page is tried under the same one."""
    with open(os.path.join(ROOT, "page_files.c"), encoding="utf-8") as file:
        block = file.read().split("#define POLICY", 1)[1].split("static const", 1)[0]
    return "".join(re.findall(r'"([^"]*)"', block))


class Mock:
    """What the server remembers; the test changes and reads it."""

    def __init__(self):
        self.key = None          # asked for when set
        self.metrics = True
        self.requests = []       # bodies of chat requests
        self.aborted = 0
        self.busy = 0
        self.settling = {}       # id -> asks until settled
        self.lock = threading.Lock()


def handler_of(mock):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def reply(self, status, body, content_type="application/json; charset=utf-8", headers=()):
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def error(self, status, message, kind="invalid_request_error", code=None, headers=(), **more):
            self.reply(status, {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}, headers=headers)

        def allowed(self):
            if not mock.key or self.headers.get("Authorization") == "Bearer " + mock.key:
                return True
            self.error(401, "Invalid API Key", "authentication_error", "invalid_api_key")
            return False

        def do_GET(self):
            path = self.path.split("?")[0]
            if path in ("/", "/index.html"):
                return self.file("index.html")
            if path.startswith("/page/") and os.path.basename(path) == path[6:]:
                return self.file(path[6:])
            if path == "/v1/models":
                return self.reply(200, {"object": "list", "data": [{"id": "SmolLM2-135M-Instruct.Q4_1", "object": "model", "created": 1, "owned_by": "wattle", "meta": {"n_ctx": 8192}}]})
            if not self.allowed():
                return None
            if path == "/metrics":
                if not mock.metrics:
                    return self.error(404, "no metrics")
                watts = 18 + 6 * math.sin(time.monotonic() * 1.7)
                return self.reply(200, f'wattle_power_watts{{domain="package-0"}} {watts:.3f}\nwattle_power_watts{{domain="dram"}} 2.5\n'.encode(), "text/plain")
            if path.startswith("/v1/energy/"):
                with mock.lock:
                    left = mock.settling.get(path[11:], 0)
                    mock.settling[path[11:]] = left - 1
                return self.reply(200, energy("measured", 20, 12, 40, settled=left <= 0))
            return self.error(404, "File Not Found", "not_found_error", "not_found")

        def file(self, name):
            path = os.path.join(ROOT, "page", name)
            kind = TYPES.get(os.path.splitext(name)[1])
            if not kind or not os.path.isfile(path):
                return self.error(404, "File Not Found", "not_found_error", "not_found")
            with open(path, "rb") as file:
                body = file.read()
            return self.reply(200, body, kind, [("Content-Security-Policy", policy()), ("X-Content-Type-Options", "nosniff"),
                                                ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-cache")])

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            if not self.allowed():
                return
            mock.requests.append(body)
            word = (body["messages"][-1]["content"].split() or [""])[0].lower().strip(".,:!?")
            if word == "busy":
                mock.busy += 1
                if mock.busy % 2:
                    return self.error(503, "the queue is full", "unavailable_error", headers=[("Retry-After", "2")])
            if word == "context":
                return self.error(400, "the prompt has 9000 tokens, and the context holds 8192, prompt and reply together", "exceed_context_size_error",
                                  "context_length_exceeded", n_prompt_tokens=9000, n_ctx=8192)
            self.stream(word, body)

        def send(self, payload):
            text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=len(self.path) % 2 == 0)
            data = f"data: {text}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

        def stream(self, word, body):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            answer_id = f"chatcmpl-{len(mock.requests)}"
            base = {"id": answer_id, "object": "chat.completion.chunk", "created": 1, "model": "mock"}

            def chunk(delta, finish=None, **more):
                self.send({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]})
            try:
                chunk({"role": "assistant", "content": ""})
                if word == "reason":
                    for piece in pieces("First I should think about <b>this</b>, then about that."):
                        chunk({"reasoning_content": piece})
                text = TEXTS.get(word, f"This is the answer to message {len(body['messages'])}: a sentence of ordinary length, so that there is something to read.")
                parts = pieces(text)
                for i, piece in enumerate(parts):
                    if word == "drop" and i == 5:
                        time.sleep(0.1)  # what was sent has arrived
                        self.close_connection = True
                        self.connection.shutdown(2)
                        return
                    if word == "broken" and i == 5:
                        self.send({"error": {"message": "the backend failed", "type": "server_error", "code": 500}})
                        break
                    chunk({"content": piece})
                    if word == "slow":
                        time.sleep(0.02)
                stop = {"limit": "length", "joules": "energy"}.get(word, "end")
                chunk({}, "stop" if stop == "end" else "length", stop_reason=stop)
                new, cached, decoded = 20 + len(text) % 30, 18 * (len(body["messages"]) - 1), min(len(parts) + 1, 220)
                kind = word if word in ("modelled", "below", "disputed", "unavailable", "replayed") else "measured"
                joules = energy(kind, new, cached, decoded, settled=word != "unsettled")
                if word == "unsettled":
                    mock.settling[answer_id] = 1
                if word == "money":
                    joules["cost"] = {"currency": "EUR", "new": 1.2e-6, "cached": 1e-8, "total": 1.4e-6}
                    joules["carbon"] = {"gco2e": 0.00042, "intensity_gco2e_per_kwh": 380, "source": "--carbon"}
                usage = {"prompt_tokens": new + cached, "completion_tokens": decoded, "total_tokens": new + cached + decoded, "prompt_tokens_details": {"cached_tokens": cached}}
                if word != "noenergy":
                    usage["energy"] = joules
                self.send({**base, "choices": [], "usage": usage})
                self.send("[DONE]")
                self.wfile.write(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                mock.aborted += 1
                self.close_connection = True

    return Handler


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


def start(port=0):
    mock = Mock()
    server = Server(("127.0.0.1", port), handler_of(mock))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, mock


if __name__ == "__main__":
    running, _ = start(int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
    print(f"http://127.0.0.1:{running.server_address[1]}/")
    threading.Event().wait()
