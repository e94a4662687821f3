"""The sha256 and git blob id of files."""

import hashlib
from pathlib import Path

from huggingface_hub.utils.sha import git_hash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antidote_ci.hub.cache import has_digest, hash_like


@given(content=st.binary(max_size=200), places=st.integers(0, 3))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hashes_match_hashlib_and_git(tmp_path: Path, content: bytes, places: int) -> None:
    """Also for files that are read in several chunks."""
    file, content = tmp_path / "file", content * (10_000 * places + 1)
    file.write_bytes(content)
    assert hash_like(file, "0" * 40) == git_hash(content)
    assert hash_like(file, "0" * 64) == hashlib.sha256(content).hexdigest()
    for digest in (git_hash(content), hashlib.sha256(content).hexdigest()):
        assert has_digest(file, digest)
        file.write_bytes(content + b"x")
        assert not has_digest(file, digest)
        file.write_bytes(content)
