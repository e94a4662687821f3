"""Patterns of `.gitignore` and `.gitattributes`, compared with git's documentation."""

import pytest

from loopback_hub.patterns import is_ignored, is_in_lfs


@pytest.mark.parametrize(
    ("rules", "path", "expected"),
    [
        ("*.bin", "a/b.bin", True),
        ("*.bin", "b.bin.txt", False),
        ("/*.bin", "a/b.bin", False),
        ("nested/*", "nested/file.bin", True),
        ("nested/*", "deep/nested/file.bin", False),
        ("nested/", "deep/nested/file.bin", True),
        ("nested/", "nested", False),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/b/b/c", True),
        ("**/logs", "x/logs/today", True),
        ("logs/**", "logs/x/today", True),
        ("file?.[!t]xt", "file1.yxt", True),
        ("file?.[!t]xt", "file1.txt", False),
        ("# *.bin\n\n", "b.bin", False),
        ("*.bin\n!keep.bin", "keep.bin", False),
        ("!keep.bin\n*.bin", "keep.bin", True),
    ],
)
def test_ignored(rules: str, path: str, expected: bool) -> None:
    assert is_ignored(rules, path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [("image.png", True), ("a/image.png", True), ("small.png", False), ("image.jpg", False), ("data/rows", True)],
)
def test_in_lfs(path: str, expected: bool) -> None:
    attributes = "*.png filter=lfs diff=lfs merge=lfs -text\ndata/** filter=lfs\nsmall.png -filter\n*.jpg text\n"
    assert is_in_lfs(attributes, path) == expected
