"""A small OpenAI-compatible server that can fail like real servers.

    python small_server.py --model NAME --port PORT [--behaviour fine|slow|...]

Its answers contain the prompt, the token limit, the temperature and the seed.
"""

import argparse
import json
import os
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class SmallServer(ThreadingHTTPServer):
    """Serves from a thread in a `with` block; `asked` holds the bodies of requests, `headers_seen` their headers."""

    daemon_threads = True
    request_queue_size = 128  # the client opens many connections at once, and Linux drops those beyond the queue

    def __init__(self, behaviour: str = "fine", models: tuple[str, ...] = ("small",), port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.behaviour = behaviour
        self.models = models
        self.asked: list[dict[str, Any]] = []
        self.headers_seen: list[dict[str, str]] = []
        self.refusals_left = 2
        self.wait = "0"
        """The header Retry-After while it is busy."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> "SmallServer":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: SmallServer

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/v1/models":
            return self.reply(404, "{}")
        self.server.headers_seen.append(dict(self.headers))
        if self.server.behaviour == "html":
            return self.reply(200, "<html><body>Welcome</body></html>")
        return self.reply(200, json.dumps({"object": "list", "data": [{"id": name} for name in self.server.models]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.headers_seen.append(dict(self.headers))
        self.server.asked.append(body)
        behaviour = self.server.behaviour
        if behaviour == "slow" or body["messages"][-1]["content"] == "wait":
            time.sleep(5)
        elif behaviour == "drip":
            return self.drip()
        elif behaviour == "endless 103":
            return self.send_forever(b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.001)
        elif behaviour == "slow headers":
            return self.send_forever(b"HTTP/1.1 200 OK\r\nX-Padding: ", 0.05)
        elif behaviour == "exit":
            os._exit(3)
        elif behaviour == "strict" and body["model"] not in self.server.models:
            return self.reply(404, "{}")
        elif behaviour == "redirect":
            return self.reply(307, "", {"Location": "http://127.0.0.1:1/v1/chat/completions"})
        elif behaviour.isdigit():
            return self.reply(int(behaviour), json.dumps({"error": "PRIVATE " + body["messages"][-1]["content"]}))
        elif behaviour in ("busy", "reset", "failing") and self.server.refusals_left > 0:
            self.server.refusals_left -= 1
            if behaviour == "busy":
                return self.reply(429, "{}", {"Retry-After": self.server.wait})
            if behaviour == "failing":
                return self.reply(503, "{}")
            self.connection.close()
            return None
        elif behaviour == "template":
            return self.reply(200, json.dumps(answer(behaviour, body | {"text": template(Path(body["model"]))})))
        return self.reply(200, json.dumps(answer(behaviour, body)))

    def send_forever(self, text: bytes, pause: float) -> None:
        """Send the text repeatedly, one byte or complete, and end when the client closes the connection."""
        pieces = [text] if pause < 0.01 else [text[index : index + 1] for index in range(len(text))]
        with suppress(OSError):
            while True:
                for piece in pieces:
                    self.wfile.write(piece)
                    time.sleep(pause)
                pieces = pieces if pause < 0.01 else [b"a"]

    def drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b" ")
            self.wfile.flush()
            time.sleep(0.05)

    def reply(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        with suppress(OSError):  # the client refuses a long answer before it has read all of it
            self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def template(folder: Path) -> str:
    """Return the chat template of a checkpoint, ignoring additional templates."""
    file = folder / "chat_template.jinja"
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    return file.read_text() if file.exists() else str(settings["chat_template"])


def answer(behaviour: str, body: dict[str, Any]) -> object:
    prompt = body["messages"][-1]["content"]
    text = f"{prompt} / {body['max_tokens']} / {body['temperature']:g} / {body['seed']}"
    message: dict[str, Any] = {"role": "assistant", "content": text}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
    if behaviour == "template":
        message["content"] = body["text"]
    elif behaviour.startswith("thinks") and body.get("chat_template_kwargs") != {"enable_thinking": False}:
        think(behaviour, body, message, choice)
    elif behaviour == "long":
        message["content"] = "word " * 2_400_000
    elif behaviour == "longer than its tokens":
        message["content"] = "word " * (60 * body["max_tokens"])
    elif behaviour == "length":
        choice["finish_reason"] = "length"
    elif behaviour == "null content":
        message["content"] = None
    elif behaviour == "refusal":
        message |= {"content": None, "refusal": "I cannot do that."}
    elif behaviour == "half a character":
        message |= {"content": "ok\ud800", "reasoning": "why\udc00"}
    elif behaviour == "no content":
        del message["content"]
    elif behaviour == "no finish":
        del choice["finish_reason"]
    elif behaviour == "no message":
        del choice["message"]
    elif behaviour == "no choices":
        return {"object": "chat.completion", "choices": []}
    elif behaviour == "a list":
        return [choice]
    return {"object": "chat.completion", "model": body["model"], "choices": [choice]}


def think(behaviour: str, body: dict[str, Any], message: dict[str, Any], choice: dict[str, Any]) -> None:
    """Begin the answer with a thought, which a riddle or a small limit leaves unfinished.

    `thinks`: in marks. `thinks, opened`: the template writes the first mark. `thinks, FIELD`: apart from the content.
    `thinks, both`: in marks and apart.
    """
    text, field = message["content"], behaviour.removeprefix("thinks, ")
    ends = "riddle" not in body["messages"][-1]["content"] and body["max_tokens"] >= 50
    if not ends:
        text, choice["finish_reason"] = None, "length"
    if behaviour in ("thinks", "thinks, opened", "thinks, both"):
        start, rest = (
            "" if behaviour == "thinks, opened" else "<think>\n",
            "" if text is None else f"\n</think>\n\n{text}",
        )
        message["content"] = f"{start}well, let me see{rest}"
        if behaviour == "thinks, both":
            message["reasoning_content"] = "well, let me see"
    else:
        message |= {"content": text, field: "well, let me see"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--behaviour", default="fine")
    options = parser.parse_args()
    if options.behaviour == "dies":
        sys.exit(3)
    if options.behaviour == "deaf":
        time.sleep(60)
    SmallServer(options.behaviour, (options.model,), options.port).serve_forever(poll_interval=0.01)


if __name__ == "__main__":
    main()
