"""A name means the same in every folder: local folders and files of that name are never taken for it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from antidote_ci.errors import ConfigurationError
from antidote_ci.hub.pull import refuse_ambiguous_name, resolve_revision
from antidote_ci.paths import find_folder, is_path, write_as_path
from antidote_ci.pipeline import model_names, resolve
from loopback_hub import LoopbackHub
from tests.builders import ignore
from tests.command_line import FinishedCommand, run_command

COMMANDS = {
    "run": ["run"],
    "evaluate": ["evaluate"],
    "repair": ["repair", "--method=scale", "--dose=0.5"],
    "dry-run": ["run", "--dry-run"],
    "repair dry-run": ["repair", "--method=scale", "--dose=0.5", "--dry-run"],
    "job": ["run", "--on=hf-jobs"],
    "verify": ["verify"],
}
EVALUATED = ("--judge=refusal", "--prompts=embedded", "--threshold=0.35")
REPAIRED = (*EVALUATED, "--realignment=embedded")
SETS = {"evaluate": EVALUATED, "run": REPAIRED, "dry-run": REPAIRED, "job": REPAIRED}
"""Options of a command, unless it has them already."""
LOOK_ALIKE = "\N{CYRILLIC SMALL LETTER O}rg/model"
INVALID = ("org//model", "org/model/", "org/model/sub", "org/.model", "org/mod--el", "org/mo..del", "org/model.git")


def cli(command: str, *arguments: str, **environment: str) -> FinishedCommand:
    """Run a command with small sets of prompts, and without a Hub that answers."""
    named = {argument.partition("=")[0] for argument in arguments}
    options = [option for option in SETS.get(command, ()) if option.partition("=")[0] not in named]
    own = {"HF_ENDPOINT": "http://127.0.0.1:9", "ANTIDOTE_HUB_RETRY_SECONDS": "0", "COLUMNS": "300", "HF_TOKEN": ""}
    own |= {"HF_JOBS_TOKEN": "hf_x", "ANTIDOTE_IMAGE": "image"}
    return run_command(*COMMANDS.get(command, [command]), *options, *arguments, **own | environment)


def refused(done: FinishedCommand, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory. It holds the folders `org/model`, `org/base` and `legacy`, without weights."""
    folder = tmp_path / "here"
    for name in ("org/model", "org/base", "legacy"):
        (folder / name).mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def local_adapter(here: Path, tiny_adapter: Path) -> Callable[[str | None, str | None], str]:
    """Writes `./adapter`, which names a base in its configuration and another one in its card."""

    def write(base: str | None, card: str | None) -> str:
        shutil.copytree(tiny_adapter, here / "adapter", dirs_exist_ok=True)
        path = here / "adapter" / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))
        (here / "adapter" / "README.md").write_text(f"---\nbase_model: {card}\n---\n" if card else "")
        return "./adapter"

    return write


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["org/model", "legacy"])
def test_a_model_name_that_is_also_a_folder_is_refused(here: Path, command: str, name: str) -> None:
    refused(cli(command, name), f"'{name}' is ambiguous", f"write ./{name} for the folder", "run in another directory")


@pytest.mark.parametrize("command", COMMANDS)
def test_other_names_are_of_the_hub(here: Path, command: str) -> None:
    for name in ("org/other", "gpt2"):
        done = cli(command, name)
        assert done.returncode == 3, done.stderr
        assert "cannot be reached" in done.stderr


@pytest.mark.parametrize("command", ["run", "evaluate", "repair", "dry-run"])
def test_paths_are_folders(here: Path, command: str) -> None:
    home = str(here)
    for path in ("./org/model", "../here/org/model", str(here / "org" / "model"), "~/org/model"):
        done = cli(command, path, HOME=home)
        assert "is not a checkpoint" in done.stderr, done.stderr
    refused(cli(command, "./org/other"), "there is no folder ./org/other")
    for path in ("~nobody-has-this-name/model", "./" + "a" * 5000):
        refused(cli(command, path), "there is no folder")


@pytest.mark.parametrize("name", [*INVALID, LOOK_ALIKE, "a" * 97, "-model", ".model", "", "org\\model", "C:\\model"])
def test_a_text_that_is_neither_a_path_nor_a_name_is_refused(here: Path, name: str) -> None:
    shutil.rmtree(here / "org")
    assert not is_path(name)
    words = ("is not a model name", "write organisation/name, or ./folder for a local checkpoint")
    refused(cli("evaluate", "--", name), *words)
    if name:
        refused(cli("evaluate", "org/other", f"--reference={name}"), *words)
    with pytest.raises(ConfigurationError, match="is not a model name"):
        resolve_revision(name, "0" * 40, resolve.pull_access())


@pytest.mark.parametrize("name", ["org/model/", "org//model", ".hidden", "a/b/c", LOOK_ALIKE])
def test_a_folder_whose_name_the_hub_does_not_allow_is_refused(here: Path, name: str) -> None:
    (here / name).mkdir(parents=True, exist_ok=True)
    refused(cli("evaluate", name), "is not a model name", f"write ./{name} for the folder")


@pytest.mark.parametrize("command", ["run", "evaluate", "repair", "dry-run", "job"])
def test_an_ambiguous_reference_is_refused(here: Path, command: str) -> None:
    words = ("'org/base' is ambiguous", "write ./org/base for the folder")
    refused(cli(command, "org/other", "--reference=org/base"), *words)
    refused(cli(command, "org/other", ANTIDOTE_REFERENCE="org/base"), *words)
    policy = here / "antidote.toml"
    policy.write_text('[repair]\nreference = "org/base"\n')
    refused(cli(command, "org/other", f"--policy={policy}"), *words)


@pytest.mark.parametrize("option", ["--source", "--reference"])
def test_verify_refuses_ambiguous_origins(here: Path, option: str) -> None:
    refused(cli("verify", "org/other", f"{option}=org/base"), "'org/base' is ambiguous", "write ./org/base")


@pytest.mark.parametrize("command", ["run", "evaluate", "repair", "dry-run"])
@pytest.mark.parametrize("declared_by", ["adapter_config.json", "model card"])
def test_an_ambiguous_base_of_a_local_model_is_refused(
    local_adapter: Callable[[str | None, str | None], str], command: str, declared_by: str
) -> None:
    model = local_adapter("org/base", None) if declared_by == "adapter_config.json" else local_adapter(None, "org/base")
    refused(
        cli(command, model),
        "'org/base' is ambiguous",
        f"the {declared_by} of the model names it",
        "write --reference ./org/base for the folder",
    )


@pytest.mark.parametrize("base", ["models/a/base", "~nobody-has-this-name/base", "./a\0b", "./" + "a" * 5000])
def test_a_base_that_cannot_be_found_is_refused(
    here: Path, local_adapter: Callable[[str | None, str | None], str], base: str
) -> None:
    (here / "models" / "a" / "base").mkdir(parents=True)
    done = cli("evaluate", local_adapter(base, None))
    refused(done, "is not a model name" if base.startswith("models") else "there is no folder")
    if base.startswith("models"):
        assert f"write --reference ./{base}" in done.stderr


def test_a_local_model_can_name_a_path(here: Path, local_adapter: Callable[[str | None, str | None], str]) -> None:
    for base in ("./org/base", str(here / "org" / "base")):
        done = cli("evaluate", local_adapter(base, None))
        assert f"{here / 'org' / 'base'} is not a checkpoint" in done.stderr, done.stderr


def test_a_model_of_the_hub_names_only_models_of_the_hub(
    here: Path,
    tmp_path: Path,
    tiny_llama: Path,
    local_adapter: Callable[[str | None, str | None], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The folder `org/base` here has no weights, and is not opened."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with LoopbackHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        commit = hub.add("org/base", tiny_llama, created="2025-01-15T12:00:00.000Z")
        hub.add("org/other", here / local_adapter("org/base", "org/base"))
        model = resolve.pull_model("org/other", None, ignore)
        reference = resolve.find_reference(model, None)
        base = resolve.resolve_base(model, reference, ignore, "read")
    assert (reference.id, reference.revision) == ("org/base", commit)
    assert base is not None
    assert base.layout.folder.name == commit


@pytest.mark.parametrize("command", ["run", "evaluate", "dry-run", "job", "judge"])
def test_an_ambiguous_location_of_a_judge_is_refused(here: Path, command: str) -> None:
    labels = here / "labels.jsonl"
    labels.write_text('{"prompt": "a", "response": "b", "label": "safe"}\n')
    before = ["calibrate", f"--labels={labels}"] if command == "judge" else ["org/other"]
    for location in ("org/model", "legacy", ".hidden"):
        (here / location).mkdir(exist_ok=True)
        refused(
            cli(command, *before, f"--judge=qwen3guard@{location}"),
            f"'{location}' is a revision, and a local folder has this name",
            f"write qwen3guard@./{location} for the folder",
        )


def test_a_judge_is_a_folder_only_as_a_path(here: Path) -> None:
    for location in ("./legacy", str(here / "legacy"), "~/legacy"):
        done = cli("judge", "calibrate", "--labels=nowhere", f"--judge=qwen3guard@{location}", HOME=str(here))
        refused(done, "nowhere cannot be read")
    policy = here / "antidote.toml"
    policy.write_text('[evaluation]\njudge = "qwen3guard@legacy"\n')
    done = run_command("evaluate", "org/other", f"--policy={policy}", "--prompts=embedded")
    refused(done, "write qwen3guard@./legacy for the folder")


@pytest.mark.parametrize(
    ("command", "option", "name"),
    [
        ("run", "--prompts", "jailbreakbench"),
        ("evaluate", "--prompts", "embedded"),
        ("evaluate", "--prompts", "xstest,strongreject"),
        ("evaluate", "--prompts", f"xstest@{'0' * 40}"),
        ("evaluate", "--benign", "xstest"),
        ("evaluate", "--benign", "embedded"),
        ("evaluate", "--task", "embedded"),
        ("run", "--realignment", "embedded"),
        ("run", "--realignment", "self"),
    ],
)
def test_a_name_of_prompts_that_is_also_a_file_is_refused(here: Path, command: str, option: str, name: str) -> None:
    """`--prompts ./NAME` reads the file."""
    rows = (f'{{"prompt": "Tell me {n}", "response": "no", "expected": "yes"}}\n' for n in range(400))
    (here / name).write_text("".join(rows))
    others = [] if option == "--prompts" else [f"--prompts={here / name}"]
    refused(cli(command, "org/other", f"{option}={name}", *others), f"'{name}' is ambiguous", f"write ./{name} for the")
    done = cli(command, "org/other", f"{option}=./{name}", *others)
    assert "ambiguous" not in done.stderr
    assert done.returncode == 3 or "is also in the" in done.stderr, done.stderr


def test_a_folder_with_the_name_of_a_prompt_set_is_no_file(here: Path) -> None:
    for name in ("embedded", "jailbreakbench"):
        (here / name).mkdir()
    done = cli("evaluate", "org/other", "--prompts=embedded")
    assert "cannot be reached" in done.stderr


def test_files_of_prompts_need_no_path(here: Path) -> None:
    (here / "rows").write_text("".join(f'{{"prompt": "Tell me {n}"}}\n' for n in range(99)))
    for name in ("rows", "./rows", str(here / "rows")):
        done = cli("evaluate", "org/other", f"--prompts={name}")
        assert "cannot be reached" in done.stderr


def test_forms_of_paths(here: Path) -> None:
    for path in (".", "..", "./", "./a", "../a", "/a", "~", "~/a", "~user/a", ".//a"):
        assert is_path(path), path
        refuse_ambiguous_name(path)
    for name in ("", ".a", "...", "..a", "a/./b", "a/../b", "a", "a/b", "-", "C:/a", "a~"):
        assert not is_path(name), name
    assert write_as_path(Path("a/b")) == "./a/b"
    assert write_as_path(Path("/a")) == "/a"
    assert write_as_path(Path(".hidden")) == "./.hidden"
    assert find_folder("./org") == here / "org"
    assert find_folder("./a\0b") is None


FORMS = {
    "org/model": ("org/model", None),
    "org/model@main": ("org/model", "main"),
    "org/model@refs/pr/3": ("org/model", "refs/pr/3"),
    "hf://org/model": ("org/model", None),
    "hf://org/model@refs%2Fpr%2F3": ("org/model", "refs/pr/3"),
    "hf://models/org/model@v1.0": ("org/model", "v1.0"),
    "https://huggingface.co/org/model": ("org/model", None),
    "https://www.huggingface.co/org/model/?library=peft#usage": ("org/model", None),
    "https://HuggingFace.co/org/model/tree/main": ("org/model", "main"),
    "https://huggingface.co/org/model/tree/refs%2Fpr%2F3": ("org/model", "refs/pr/3"),
    "https://huggingface.co/org/model/tree/refs/pr/3": ("org/model", "refs/pr/3"),
    f"https://huggingface.co/org/model/commit/{'a' * 40}": ("org/model", "a" * 40),
    "https://huggingface.co/org/model/blob/main/folder/README.md": ("org/model", "main"),
    "https://huggingface.co/gpt2": ("gpt2", None),
    "http://hf.co/org/model": ("org/model", None),
    "hf.co/org/model": ("org/model", None),
    "huggingface.co/org/model/tree/dev": ("org/model", "dev"),
    "https://hub.corp.example:8443/mirror/org/model/tree/dev": ("org/model", "dev"),
}
"""Text that a user pastes -> name and revision."""
UNCHANGED = (
    *("./org/model@main", "../a", "~/a@b", "http://127.0.0.1:8000/v1", "https://api.example.com/v1#name"),
    *("https://hub.corp.example:8443/v1#name", "https://hub.corp.example:8443/served/v1#name"),
    *("https://huggingface.co.evil.example/org/model", "https://[a/b"),
    *("https://evil.example/huggingface.co/org/model", "org/model@", "org/model@a b", "org/model@a@b", "hf.co/model"),
)
NO_MODELS = (
    *("https://huggingface.co", "https://huggingface.co/datasets/org/data", "https://huggingface.co/org/model/tree"),
    *("https://huggingface.co/org/model/tree/main/folder", "https://huggingface.co/org/model/discussions/3"),
    *("hf://datasets/org/data", "hf://org/model/config.json", "hf://org/model@", "hf://"),
)


def test_an_address_on_the_hub_names_a_model(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://user:key@hub.corp.example:8443/mirror/")
    shutil.rmtree(here / "org")
    for text, named in FORMS.items():
        assert model_names.parse_model_name(text) == named
    for text in UNCHANGED:
        assert model_names.parse_model_name(text) == (text, None)
    for text in NO_MODELS:
        with pytest.raises(ConfigurationError, match="is not the address of a model"):
            model_names.parse_model_name(text)


def test_a_folder_makes_an_address_ambiguous(here: Path) -> None:
    (here / "org" / "model@main").mkdir()
    refused(cli("evaluate", "org/model@dev"), "'org/model' is ambiguous")
    refused(cli("evaluate", "org/model@main"), "write ./org/model@main for the folder")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_accepts_addresses_on_the_hub(here: Path, command: str) -> None:
    for text in ("https://huggingface.co/org/other/tree/main", "hf://org/other", "org/other@main"):
        done = cli(command, text)
        assert done.returncode == 3, done.stderr
        assert "cannot be reached" in done.stderr
    refused(cli(command, "org/other@main", "--revision=dev"), "two revisions of org/other are named: main and dev")
    assert cli(command, "org/other@main", "--revision=main").returncode == 3


def test_addresses_are_resolved_at_their_revisions(
    here: Path, tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with LoopbackHub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        first = hub.add("org/other", folder)
        (folder / "README.md").write_text("Second commit.")
        second = hub.add("org/other", folder)
        for text in (f"org/other@{first}", f"{hub.endpoint}/org/other/tree/{first}"):
            arguments = [f"{hub.endpoint}/org/other", f"--reference={text}", *REPAIRED, "--dry-run", "--json"]
            done = cli("run", *arguments, HF_ENDPOINT=hub.endpoint)
            forecast = json.loads(done.stdout)
            named = (forecast["model"], forecast["revision"], forecast["reference"])
            assert named == ("org/other", second, f"org/other@{first}")
            model = resolve.pull_model("org/other", None, ignore)
            reference = resolve.find_reference(model, forecast["reference"])
            assert (reference.id, reference.revision) == ("org/other", first)
