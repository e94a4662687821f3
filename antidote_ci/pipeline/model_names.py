"""The name of a model: ORG/MODEL[@REVISION], the address of its page on the Hub, a path, or the address of a server."""

import re
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.chat_api import redact_address
from antidote_ci.hub import pull
from antidote_ci.hub.client import read_endpoint
from antidote_ci.hub.remote import REPOSITORY_NAME
from antidote_ci.paths import is_folder, is_path
from antidote_ci.policy import RunConfig, override_section

HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
FILESYSTEM_SCHEME = "hf://"
"""Of the Hub's file system: https://huggingface.co/docs/huggingface_hub/guides/hf_file_system"""
PAGE_REVISION = re.compile(
    r"(?:tree|commits?)/(?P<whole>(?:refs/pr/)?[^/]+)|(?:blob|resolve|raw)/(?P<of_file>(?:refs/pr/)?[^/]+)/.+"
)
"""What follows the name in the address of a page that shows a model at one revision."""
SERVER_PATH = "v1"
"""Of an OpenAI-compatible API, which may have the host of HF_ENDPOINT."""
REVISION = re.compile(r"[^\s@\x00-\x1f\x7f]{1,255}")


def parse_model_names(config: RunConfig) -> RunConfig:
    """The configuration with the names of model and reference in one form: ORG/MODEL, a path, or a server's address.

    The reference keeps a revision as ORG/MODEL@REV. See `parse_model_name`.

    Raises ConfigurationError for two different revisions of the model.
    """
    model, revision = parse_revision(config.model, config.revision)
    config = replace(config, model=model, revision=revision)
    if config.policy.repair.reference is None:
        return config
    name, revision = parse_model_name(config.policy.repair.reference)
    reference = name if revision is None else f"{name}@{revision}"
    return replace(config, policy=override_section(config.policy, "repair", reference=reference))


def parse_revision(text: str, revision: str | None) -> tuple[str, str | None]:
    """Name and revision of a model, of which `--revision` may name the revision, too.

    Raises ConfigurationError for two different revisions.
    """
    model, named = parse_model_name(text)
    if named is not None and revision not in (None, named):
        raise ConfigurationError(
            f"two revisions of {model} are named: {named} and {revision}",
            cause=f"{text:.200} already names one",
            hint="drop --revision, or the revision in the name",
        )
    return model, revision if named is None else named


def parse_model_name(text: str) -> tuple[str, str | None]:
    """Name and revision of ORG/MODEL@REV, hf://ORG/MODEL@REV, or the address of the page of a model on the Hub.

    The revision is None where none is named. Paths, addresses of servers and invalid names are returned unchanged.
    Raises ConfigurationError for an address on the Hub that is not the one of a model.
    """
    if is_path(text) or is_folder(text):
        return text, None
    if text.startswith(FILESYSTEM_SCHEME):
        name, at, revision = text.removeprefix(FILESYSTEM_SCHEME).partition("@")
        return _require_model(text, name.removeprefix("models/").rstrip("/"), unquote(revision) if at else None)
    if (page := _hub_page(text)) is None:
        name, _, revision = text.partition("@")
        return (name, revision) if REPOSITORY_NAME.fullmatch(name) and REVISION.fullmatch(revision) else (text, None)
    parts = page.split("/", 2)
    if len(parts) < 3:
        return _require_model(text, page, None)
    match = PAGE_REVISION.fullmatch(parts[2])
    return _require_model(text, "/".join(parts[:2]), unquote(match["whole"] or match["of_file"]) if match else "")


def _hub_page(text: str) -> str | None:
    """The path of an address on the Hub, without outer slashes; None for any other text."""
    # Without a scheme, `hf.co/name` may be a name on the Hub.
    if REPOSITORY_NAME.fullmatch(text):
        return None
    endpoint, prefixes = urlsplit(read_endpoint()), dict.fromkeys(HUB_HOSTS, "")
    prefixes[_host_of(endpoint.netloc)] = endpoint.path
    try:
        address = urlsplit(text if "://" in text else f"https://{text}")
    except ValueError:
        return None
    prefix = prefixes.get(_host_of(address.netloc))
    if prefix is None or address.scheme not in ("http", "https"):
        return None
    page = address.path.removeprefix(prefix).strip("/")
    # A server may have the Hub's host; `ADDRESS/v1#MODEL` names a model that it serves.
    is_server = page == SERVER_PATH or (page.endswith(f"/{SERVER_PATH}") and address.fragment)
    return None if is_server else page


def _host_of(netloc: str) -> str:
    return netloc.rpartition("@")[2].lower()


def _require_model(text: str, name: str, revision: str | None) -> tuple[str, str | None]:
    """Name and revision from an address. Raises ConfigurationError unless both are valid."""
    if not REPOSITORY_NAME.fullmatch(name) or (revision is not None and not REVISION.fullmatch(revision)):
        raise ConfigurationError(
            f"{redact_address(text):.200} is not the address of a model",
            cause="it has the form https://huggingface.co/ORG/MODEL, with /tree/REVISION where one is meant",
            hint="write ORG/MODEL, or ORG/MODEL@REVISION",
        )
    return name, revision


def require_clear_names(config: RunConfig) -> None:
    """Raise ConfigurationError if the name of the model or of the reference is invalid, or could mean two models."""
    if not is_server_address(config.model):
        pull.refuse_ambiguous_name(config.model)
    if config.policy.repair.reference is not None:
        pull.refuse_ambiguous_name(parse_model_name(config.policy.repair.reference)[0])


def is_server_address(model: str) -> bool:
    """Whether `model` is the URL of a server instead of a repository or a folder."""
    return model.startswith(("http://", "https://"))


def display_name(model: str) -> str:
    """The name of a model, without the user and the password in the address of a server."""
    if not is_server_address(model):
        return model
    address, hash_sign, served = model.partition("#")
    return f"{redact_address(address)}{hash_sign}{served}"
