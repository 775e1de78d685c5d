"""The command line: one command, or one group of them, one file.

The file of a command is loaded when it is needed, and loads client, server or screen when it
runs, so that ``copycat --help`` and ``copycat status`` start quickly.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from copycat import __version__
from copycat.console.cli import failures
from copycat.console.cli.parameters import DURATION, ENDPOINT
from copycat.console.cli.settings import TIMEOUT_S, Settings

COMMANDS = {
    "serve": "serve",
    "status": "status",
    "top": "top",
    "map": "map",
    "counter": "counter",
    "lock": "lock",
    "topic": "topic",
    "cluster": "cluster",
    "demo": "demo",
}
"""The module of each command, in the order of ``--help``."""


class CommandLine(click.Group):
    """The command ``copycat``: loads its subcommands late, and turns failures into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"copycat.console.cli.{COMMANDS[cmd_name]}")
        command = module.command
        assert isinstance(command, click.Command), "each module has one command"
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit with a code of ``failures``; no error leaves it as a traceback."""
        words = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(
                words, prog_name or "copycat", complete_var, standalone_mode=False, **extra
            )
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            code = failures.SIGNALLED + 2
        except Exception as error:  # noqa: BLE001 - the outermost place there is
            code = failures.tell(error, debug="--debug" in words[: _first_command(words)])
        sys.exit(code if isinstance(code, int) else failures.DONE)


def _first_command(words: list[str]) -> int:
    """Where the global options end; what stands behind may be meant for another program."""
    return next((place for place, word in enumerate(words) if word in COMMANDS), len(words))


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--endpoint",
    "endpoints",
    type=ENDPOINT,
    multiple=True,
    metavar="HOST:PORT",
    help="A server; may be repeated. Others are learnt from it. Without one: those in"
    " COPYCAT_ENDPOINTS, separated by commas; else the playground of `copycat cluster up`.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=DURATION,
    default=TIMEOUT_S,
    help="How long one operation may take, such as 500ms or 1m30s; 5s if not given.",
)
@click.option("--debug", is_flag=True, help="Show where an error came from.")
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def main(
    context: click.Context, endpoints: tuple[str, ...], timeout_s: float, *, debug: bool
) -> None:
    """Coordination for Python programs: maps, counters, locks and topics on a replicated log.

    `copycat demo` shows what it does; `copycat cluster up` starts servers to play with.
    """
    context.obj = Settings(endpoints, timeout_s, debug=debug)
