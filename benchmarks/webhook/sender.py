"""The Hub's side of it: deliveries over kept connections, each tried again until it is answered."""

import heapq
import http.client
import select
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.webhook.messages import Message
from benchmarks.webhook.plan import Delivery

TIMEOUT = 10.0
"""Seconds that an answer may take. The Hub's own limit is not documented."""
FIRST_WAIT, LONGEST_WAIT = 0.25, 2.0
"""Between attempts, doubling. The Hub waits longer, and goes on for longer."""
PIECE = 8192


@dataclass(frozen=True)
class Answer:
    """The answer to one attempt."""

    number: int
    """Of the delivery."""
    at: float
    """When it came, by the machine's monotonic clock."""
    status: int | None
    """None: no answer, the service being down or going down."""
    said: str
    seconds: float
    """From the first byte sent to the last one received."""

    @property
    def is_final(self) -> bool:
        """Anything but a failure of the server is."""
        return self.status is not None and self.status < 500


class Post:
    """What is still to be sent, earliest first, shared by the connections."""

    def __init__(self, deliveries: Sequence[Delivery], seconds: float) -> None:
        """`seconds`: how long the storm is to last."""
        began = time.monotonic()
        self.answers: list[Answer] = []
        self._waiting = [(began + each.due * seconds, each.number, each, 0) for each in deliveries]
        heapq.heapify(self._waiting)
        self._open = len(deliveries)
        self._changed = threading.Condition()

    def take(self) -> tuple[Delivery, int] | None:
        """The next delivery when its time has come, and how often it was tried; None when all are answered."""
        with self._changed:
            while self._open:
                if self._waiting and (wait := self._waiting[0][0] - time.monotonic()) <= 0:
                    _, _, delivery, tried = heapq.heappop(self._waiting)
                    return delivery, tried
                self._changed.wait(wait if self._waiting else None)
        return None

    def answered(self, delivery: Delivery, tried: int, answer: Answer) -> None:
        """Keep the answer; without a final one the delivery comes again."""
        with self._changed:
            self.answers.append(answer)
            if answer.is_final:
                self._open -= 1
            else:
                due = time.monotonic() + min(FIRST_WAIT * 2**tried, LONGEST_WAIT)
                heapq.heappush(self._waiting, (due, delivery.number, delivery, tried + 1))
            self._changed.notify_all()


def send_all(post: Post, port: int, connections: int, build: Callable[[Delivery], Message]) -> None:
    """Returns when every delivery has its final answer. `build` is called anew for each attempt."""
    threads = [
        threading.Thread(target=_send, args=(post, port, build), name=f"connection {number}", daemon=True)
        for number in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _send(post: Post, port: int, build: Callable[[Delivery], Message]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    while (taken := post.take()) is not None:
        delivery, tried = taken
        message = build(delivery)
        post.answered(delivery, tried, _send_once(connection, delivery.number, message))
    connection.close()


def _send_once(connection: http.client.HTTPConnection, number: int, message: Message) -> Answer:
    if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
        connection.close()  # nothing was asked, so what is there to be read is its end
    if connection.sock is None:
        try:  # a connection is kept, so making it is no part of an answer's time
            connection.connect()
        except OSError as error:
            return Answer(number, time.monotonic(), None, type(error).__name__, 0.0)
    began = time.monotonic()
    try:
        whole = _write(connection, message)
        response = connection.getresponse()
        status, said = response.status, response.read().decode("utf-8", "replace")
        if not whole:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return Answer(number, time.monotonic(), None, type(error).__name__, time.monotonic() - began)
    ended = time.monotonic()
    return Answer(number, ended, status, said, ended - began)


def _write(connection: http.client.HTTPConnection, message: Message) -> bool:
    """Whether all of it could be sent. A server may refuse a large body meanwhile: its answer is there to be read."""
    body = message.body
    headers = {key: value.encode("latin-1") for key, value in message.headers.items()}
    try:
        connection.putrequest("POST", f"/webhook{message.query}", skip_accept_encoding=True)
        for key, value in headers.items():
            connection.putheader(key, value)
        if message.chunked:
            connection.putheader("Transfer-Encoding", "chunked")
            pieces = (body[start : start + PIECE] for start in range(0, len(body), PIECE))
            connection.endheaders(pieces, encode_chunked=True)
        else:
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
    except (BrokenPipeError, ConnectionResetError):
        if len(body) < PIECE:
            raise
        return False
    return True
