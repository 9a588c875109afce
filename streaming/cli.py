"""The command line: which commands there are, loaded only when called, and how errors end.

Each command lives in `streaming/commands/` and exports a click command named `command`.
"""

import importlib
import sys

import click

from streaming.errors import WardwatchError

COMMANDS = {
    "demo": ("demo", "local Kafka and Redis, worker, replay, alerts, latency report"),
    "up": ("up", "start the local Kafka and Redis"),
    "down": ("down", "stop what `up` started"),
    "topics": ("topics", "create or check the topics"),
    "worker": ("worker", "run the Faust workers"),
    "replay": ("replay", "replay MIMIC-III or a synthetic cohort"),
    "alerts": ("alerts", "subscribe to the alerts topic"),
    "board": ("board", "live ward board in the browser"),
    "dead-letters": ("dead_letters", "list refused events, or send them in again"),
    "listen": ("listen", "gateways: DICOM C-STORE, HL7 v2 over MLLP"),
    "verify": ("verify", "check a run's history from the topics alone"),
    "train": ("train", "train a model from a named recipe"),
    "evaluate": ("evaluate", "measure an artifact on a data set's labelled stays"),
    "export": ("export", "build and check what a backend needs of an artifact"),
    "bench": ("bench", "measure the live path beside bare clients"),
    "doctor": ("doctor", "check Kafka, Redis, topics, model and clock"),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"streaming.commands.{COMMANDS[name][0]}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="wardwatch")
def group() -> None:
    """Wardwatch: scans, notes and vitals off Kafka, fused by one model, alerts within milliseconds.

    Settings come from the environment (WARDWATCH_*); `wardwatch worker --help` lists them.
    """


def main() -> None:
    """Runs a command. An error that we foresaw is one line and a non-zero status."""
    try:
        group.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except WardwatchError as error:
        click.echo(f"wardwatch: {error}", err=True)
        sys.exit(1)
