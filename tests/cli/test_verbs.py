"""The command line: help without heavy imports, an environment without torch, errors and statuses in one form."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

from zhen.cli.app import VERBS, run

HEAVY = ("torch", "transformers", "daft", "pyarrow", "numba", "trafilatura", "sentencepiece", "ray", "altair")
LIGHT = ("inspect", "rename", "convert", "release", "audit", "verify", "watch")


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_imports_nothing_heavy_and_has_an_example(verb: str) -> None:
    code = f"""
import sys
from zhen.cli.app import run
status = run([*sys.argv[1:], "--help"])
heavy = [name for name in {HEAVY!r} if name in sys.modules]
print("LOADED", *heavy)
sys.exit(status)
"""
    done = python(code, *([verb] if verb else []))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["LOADED"]
    assert "zhen run recipes/tiny.toml" in done.stdout if not verb else "Example: zhen " + verb in done.stdout


def test_the_help_lists_every_verb() -> None:
    done = python("from zhen.cli.app import run; run(['--help'])")
    for name, verb in VERBS.items():
        assert re.search(rf"^  {name} +{re.escape(verb.help[:40])}", done.stdout, re.MULTILINE)


def test_every_verb_has_a_page_in_the_docs() -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    assert [name for name in VERBS if not (docs / f"{name}.md").is_file()] == []


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["rnu"], 'zhen: no verb "rnu"', 'did you mean "run"?'),
        (["run"], "zhen run: missing argument '", "zhen run --help"),
        (["run", "recipe.toml", "--fast"], "zhen run: no such option: --fast", "zhen run --help"),
        (["run", "recipe.toml", "--out"], "zhen run: option '--out' requires an argument", "zhen run --help"),
        (["inspect", "no/such/folder"], "no/such/folder", None),
    ],
)
def test_usage_errors_have_our_form(
    arguments: list[str],
    message: str,
    hint: str | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ZHEN_LAUNCHED", "1")
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert hint is None or f"hint: {hint}" in captured.err


def _light_distributions() -> set[str]:
    """What `pip install zhen` brings: the closure of its requirements without extras."""
    found: set[str] = set()
    waiting = ["zhen"]
    while waiting:
        name = waiting.pop()
        for text in importlib.metadata.requires(name) or []:
            requirement = re.match(r"[A-Za-z0-9._-]+", text)
            assert requirement is not None
            if not re.search("extra ==|platform", text) and requirement[0].lower() not in found:
                found.add(requirement[0].lower())
                waiting.append(requirement[0])
    return found


@pytest.fixture(scope="module")
def light_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the light core only, made of links to what is installed here."""
    folder = tmp_path_factory.mktemp("light")
    venv.create(folder, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for name in (*_light_distributions(), "zhen"):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    source = Path(__file__).resolve().parents[2] / "src"
    (site / "zhen-source.pth").write_text(str(source))
    return folder / "bin" / "python"


def test_light_verbs_run_without_torch(light_python: Path, micro_run: Any, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    probe = subprocess.run(
        [light_python, "-c", "import torch"], capture_output=True, text=True, env=environment, check=False
    )
    assert "ModuleNotFoundError" in probe.stderr
    release, run_folder = str(micro_run.folder / "release"), str(micro_run.folder)
    work = (
        ["verify", run_folder],
        ["watch", run_folder, "--export", str(tmp_path / "page.html")],
        ["audit", release],
        ["rename", release, "--to", "yi", "--out", str(tmp_path / "yi")],
        ["convert", str(tmp_path / "yi"), "--to", "phi3", "--out", str(tmp_path / "fused")],
        ["convert", str(tmp_path / "fused"), "--to", "llama", "--out", str(tmp_path / "again")],
        ["inspect", str(tmp_path / "again"), "--json"],
    )
    for arguments in (["--help"], *([verb, "--help"] for verb in LIGHT), *work):
        done = subprocess.run(
            [light_python, "-m", "zhen", *arguments], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
    assert '"family": "llama"' in done.stdout


def test_a_heavy_verb_without_its_extra_says_what_to_install(light_python: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    (tmp_path / "recipe.toml").write_text("")
    done = subprocess.run(
        [light_python, "-m", "zhen", "generate", str(tmp_path), "--prompt", "x"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "pip install 'zhen[make]'" in done.stderr


def test_without_a_word_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "zhen run recipes/tiny.toml" in capsys.readouterr().out


def call(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """The exit status of a verb that raises `error`."""
    import zhen.cli.inspect as verb

    def command() -> None:
        raise error

    monkeypatch.setattr(verb, "command", command)
    return run(["inspect"])


def test_a_full_disk_is_said_wherever_it_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "runs/x/log.jsonl")) == 2
    assert "runs/x/log.jsonl: No space left on device\nhint:" in capsys.readouterr().err


def test_ctrl_c_is_said_and_its_status_is_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_reader_that_goes_away_is_no_error_and_no_answer_is_changed(micro_run: Any) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for arguments in (["inspect", "--json"], ["inspect"], ["audit"]):
        command = [sys.executable, "-m", "zhen", arguments[0], str(micro_run.folder / "release"), *arguments[1:]]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    os.close(writing)


def test_a_run_goes_on_when_nobody_reads_its_progress(tmp_path: Path) -> None:
    recipe = Path(__file__).resolve().parents[2] / "recipes" / "micro.toml"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "zhen", "run", str(recipe), "sampleweb", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, stderr=writing, env=os.environ | {"ZHEN_PROGRESS": "json"}, check=False)
    os.close(writing)
    assert done.returncode == 0
    assert (tmp_path / "run" / "sampleweb" / "record.json").is_file()
