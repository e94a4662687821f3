"""Payloads of webhooks as others have published them.

`DOCUMENTED` is from docs/hub/webhooks.md of huggingface/hub-docs (August 2026): the whole example, and the examples of
single properties, joined by the documented rules. `RECEIVED` is from tests/test_webhooks_server.py of
huggingface/huggingface_hub 2.4.0, where the payloads of real deliveries are kept.
"""

from typing import Any

_WEBHOOK = {"id": "6390e855e30d9209411de93b", "version": 3}
_REPOSITORY = {
    "type": "model",
    "name": "some-user/some-repo",
    "id": "6366c000a2abcdf2fd69a080",
    "private": False,
    "url": {
        "web": "https://huggingface.co/some-user/some-repo",
        "api": "https://huggingface.co/api/models/some-user/some-repo",
    },
    "headSha": "c379e821c9c95d613899e8c4343e4bfee2b0c600",
    "owner": {"id": "61d2000c3c2083e1c08af22d"},
}
NEW_COMMIT = "575db8b7a51b6f85eb06eee540738584589f131c"

DOCUMENTED: dict[str, dict[str, Any]] = {
    "pull request opened": {
        "event": {"action": "create", "scope": "discussion"},
        "repo": {
            "type": "model",
            "name": "openai-community/gpt2",
            "id": "621ffdc036468d709f17434d",
            "private": False,
            "url": {
                "web": "https://huggingface.co/openai-community/gpt2",
                "api": "https://huggingface.co/api/models/openai-community/gpt2",
            },
            "owner": {"id": "628b753283ef59b5be89e937"},
        },
        "discussion": {
            "id": "6399f58518721fdd27fc9ca9",
            "title": "Update co2 emissions",
            "url": {
                "web": "https://huggingface.co/openai-community/gpt2/discussions/19",
                "api": "https://huggingface.co/api/models/openai-community/gpt2/discussions/19",
            },
            "status": "open",
            "author": {"id": "61d2f90c3c2083e1c08af22d"},
            "num": 19,
            "isPullRequest": True,
            "changes": {"base": "refs/heads/main"},
        },
        "comment": {
            "id": "6399f58518721fdd27fc9caa",
            "author": {"id": "61d2f90c3c2083e1c08af22d"},
            "content": "Add co2 emissions information to the model card",
            "hidden": False,
            "url": {
                "web": "https://huggingface.co/openai-community/gpt2/discussions/19#6399f58518721fdd27fc9caa",
            },
        },
        "webhook": _WEBHOOK,
    },
    "commit and tag": {
        "event": {"action": "update", "scope": "repo.content"},
        "repo": _REPOSITORY,
        "updatedRefs": [
            {"ref": "refs/heads/main", "oldSha": "ce9a4674fa833a68d5a73ec355f0ea95eedd60b7", "newSha": NEW_COMMIT},
            {"ref": "refs/tags/test", "oldSha": None, "newSha": NEW_COMMIT},
        ],
        "webhook": _WEBHOOK,
    },
    "made private": {
        "event": {"action": "update", "scope": "repo.config"},
        "repo": _REPOSITORY,
        "updatedConfig": {"private": False},
        "webhook": _WEBHOOK,
    },
    "unknown configuration": {
        "event": {"action": "update", "scope": "repo.config.dois"},
        "repo": _REPOSITORY,
        "updatedConfig": {},
        "webhook": _WEBHOOK,
    },
}

_WAUPLIN = {"id": "6273f303f6d63a28483fde12"}
RECEIVED: dict[str, dict[str, Any]] = {
    "pull request closed": {
        "event": {"action": "update", "scope": "discussion"},
        "repo": {
            "type": "space",
            "name": "Wauplin/leaderboard",
            "id": "656896965808298301ed7ccf",
            "private": False,
            "url": {
                "web": "https://huggingface.co/spaces/Wauplin/leaderboard",
                "api": "https://huggingface.co/api/spaces/Wauplin/leaderboard",
            },
            "owner": _WAUPLIN,
        },
        "discussion": {
            "id": "656a0dfcadba74cd5ef4545b",
            "title": "Update space_ci/webhook.py",
            "url": {
                "web": "https://huggingface.co/spaces/Wauplin/leaderboard/discussions/4",
                "api": "https://huggingface.co/api/spaces/Wauplin/leaderboard/discussions/4",
            },
            "status": "closed",
            "author": _WAUPLIN,
            "num": 4,
            "isPullRequest": True,
            "changes": {"base": "refs/heads/main"},
        },
        "webhook": {"id": "656a05348c99518820a4dd54", "version": 3},
    },
    "push to a pull request": {
        "event": {"action": "update", "scope": "repo.content"},
        "repo": {
            "type": "space",
            "name": "Wauplin/gradio-user-history",
            "id": "651311c46de9c503f3f34a9e",
            "private": False,
            "subdomain": "wauplin-gradio-user-history",
            "url": {
                "web": "https://huggingface.co/spaces/Wauplin/gradio-user-history",
                "api": "https://huggingface.co/api/spaces/Wauplin/gradio-user-history",
            },
            "headSha": "5e7f29fffcc579cb52539fddb14a1a4f85f39e44",
            "owner": _WAUPLIN,
        },
        "webhook": {"id": "65a14fd933eca76f4639fc84", "version": 3},
        "updatedRefs": [{"ref": "refs/pr/5", "oldSha": None, "newSha": "227c78346870a85e5de4fff8a585db68df975406"}],
    },
}

PUBLISHED = DOCUMENTED | RECEIVED
