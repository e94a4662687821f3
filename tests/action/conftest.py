"""Fixtures of the Action's tests."""

from tests.action.small_github import github as github
