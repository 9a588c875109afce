import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from streaming.cli import COMMANDS, group, main
from streaming.errors import ConfigError
from streaming.messages import Vitals
from streaming.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    result = CliRunner().invoke(group, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def _run(*arguments, **env):
    import os

    return subprocess.run(
        [sys.executable, "-m", "streaming", *arguments],
        env=os.environ | env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["topics", "check"], {"WARDWATCH_KAFKA_BOOTSTRAP": "127.0.0.1:1"}),
        (["alerts"], {"WARDWATCH_KAFKA_BOOTSTRAP": "127.0.0.1:1"}),
        (["worker", "--role", "fusion"], {"WARDWATCH_PARTITIONS": "none"}),
        (["train", "nothing", "--data", ".", "--out", "x"], {}),
        (["evaluate", "--dataset", "nothing", "--root", "."], {}),
        (["evaluate", "--dataset", "eicu", "--root", ".", "--artifact", "tests"], {}),
        (["export", "--backend", "nothing"], {}),
        (["export", "--backend", "onnx", "--artifact", "tests"], {}),
        (["bench", "engine", "--backend", "nothing"], {}),
        (["bench", "engine", "--artifact", "tests"], {}),
        (["replay", "mimic3", "--root", "tests"], {}),
        (["replay", "synthetic", "--drop", "vitals:2"], {}),
        (["replay", "synthetic", "--speed", "fast"], {}),
    ],
)
def test_bad_input_ends_in_one_clear_line_and_a_status(arguments, env):
    done = _run(*arguments, **env)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        *(
            ([name], {"WARDWATCH_KAFKA_BOOTSTRAP": "host:abc"})
            for name in ("alerts", "board", "verify", "dead-letters")
        ),
        *(([name], {"WARDWATCH_REDIS_URL": "foo"}) for name in ("doctor", "worker")),
        (["up", "--data-dir", str(ROOT / "pyproject.toml" / "below-a-file")], {}),
    ],
)
def test_an_address_or_folder_that_cannot_be_used_is_one_line(arguments, env):
    done = _run(*arguments, **env)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("wardwatch: ")


@pytest.mark.parametrize(
    ("name", "text", "sound"),
    [
        *(("KAFKA_BOOTSTRAP", text, True) for text in ("kafka-1:9092, k_2.ward:9093", "kafka", "[::1]:9092")),
        *(("KAFKA_BOOTSTRAP", text, False) for text in ("", "a:1,", "a:0", "a:65536", "a:b", "::1", "ssl://a:1", "a b:1")),
        *(("REDIS_URL", text, True) for text in ("redis://:secret@r:6379/1", "rediss://r", "unix:///run/redis.sock")),
        *(("REDIS_URL", text, False) for text in ("", "http://secret", "redis:secret", "redis://r:secret", "redis://[secret")),
    ],
)  # fmt: skip
def test_addresses_are_judged_where_settings_are_read_and_never_quoted(monkeypatch, name, text, sound):
    monkeypatch.setenv(f"WARDWATCH_{name}", text)
    if sound:
        assert getattr(Settings(), name.lower()) == text
        return
    with pytest.raises(ConfigError, match=f"WARDWATCH_ setting is wrong: {name}: Input should be") as refused:
        Settings()
    assert "secret" not in str(refused.value)


def test_only_what_reading_the_settings_found_wrong_is_told_as_a_wrong_setting(monkeypatch, capsys):
    @click.command()
    def reads_a_record():
        Vitals.model_validate_json("{}")

    monkeypatch.setattr(group, "get_command", lambda *_: reads_a_record)
    monkeypatch.setattr(sys, "argv", ["wardwatch", "alerts"])
    with pytest.raises(ValidationError):
        main()
    assert "WARDWATCH_" not in capsys.readouterr().err


def test_the_readme_lists_every_setting():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in Settings.model_fields:
        assert f"`WARDWATCH_{name.upper()}`" in readme, name


def test_every_target_that_make_or_the_readme_names_has_a_rule():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    named = {*phony.group(1).split(), *re.findall(r"`?make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8"))}
    assert {"demo", "test", "tensorrt"} <= named
    for target in named:
        assert re.search(rf"^{target}:.*##", makefile, re.MULTILINE), target


def test_locks_name_no_host_and_every_package_has_a_hash():
    for path in (ROOT / "requirements").glob("*.lock"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text and "index" not in text.split("--hash", 1)[0]
        packages = re.findall(r"^[a-z0-9][^\n]*==", text, re.MULTILINE)
        assert packages and text.count("--hash=sha256:") >= len(packages)
    assert "torch==" not in (ROOT / "requirements/base.lock").read_text(encoding="utf-8")
