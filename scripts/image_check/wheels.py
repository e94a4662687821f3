"""torch from a file of this machine, by an index as pip expects it."""

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
    """Build arguments that take torch from `wheel` and check its sha256; the build must be on this host's network."""
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
