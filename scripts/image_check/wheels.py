"""Serves a local wheel of torch as a package index."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def index(folder: Path, wheel: Path) -> Iterator[dict[str, str]]:
    """Serve `wheel` and return the build arguments that install it with its hash. The build needs the host network."""
    page = folder / "index" / "torch"
    page.mkdir(parents=True)
    (page / wheel.name).symlink_to(wheel.resolve())
    (page / "index.html").write_text(f'<a href="{quote(wheel.name)}">{wheel.name}</a>', encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder / "index"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        try:
            yield {"TORCH_INDEX": f"http://127.0.0.1:{server.server_port}/", "TORCH_SHA256": digest}
        finally:
            server.shutdown()
