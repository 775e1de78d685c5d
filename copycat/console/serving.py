"""Serving: a process that is one server and nothing else."""

import asyncio
import contextlib
import importlib
import ipaddress
import logging
import os
import resource
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from copycat.actors.disk import DirectoryInUseError
from copycat.actors.endpoint import parse_endpoint
from copycat.actors.network_listener import scarcity
from copycat.console.log_writer import STDERR, LogWriter
from copycat.errors import ConfigurationError, CopycatError
from copycat.host import ServerHost
from copycat.machine import StateMachine, installed_catalog
from copycat.server.options import ServerOptions
from copycat.server.users_code import Recursion
from copycat.storage.errors import StorageError

log = logging.getLogger("copycat.server")

LOG_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s"


def options_of(
    name: str,
    peers: dict[str, str],
    types: tuple[str, ...],
    heartbeat_s: float,
    election_timeout_s: tuple[float, float],
) -> ServerOptions:
    """The settings of a server, from what its command line says.

    Raises:
        ConfigurationError: they contradict each other, or a type cannot be loaded.
    """
    return ServerOptions(
        name=name,
        peers=peers,
        catalog=installed_catalog(dict(_loaded(each) for each in types)),
        heartbeat_s=heartbeat_s,
        election_timeout_min_s=election_timeout_s[0],
        election_timeout_max_s=election_timeout_s[1],
        recursion=Recursion.COUNTED,
    )


def serve(
    options: ServerOptions,
    *,
    listen: str,
    directory: Path,
    insecure: bool,
    fail_entries: tuple[int, ...] = (),
) -> None:
    """Run the server until SIGTERM; raises what makes it stop by itself.

    Raises:
        ConfigurationError: an address is not of this machine alone, and ``insecure`` is False;
            or the directory cannot be made, read or written.
        ListenError, DirectoryInUseError, StorageError, ServerError: the server could not start,
            or could not go on.
        KeyboardInterrupt: after SIGINT, when the server has stopped.
    """
    if not __debug__:
        raise ConfigurationError("a server checks its invariants always: run python without -O")
    if not insecure:
        for endpoint in (listen, *options.peers.values()):
            _check_loopback(endpoint)
    _open_standard_descriptors()
    _raise_limit_of_descriptors()
    log_writer = _log_to_stderr()
    if _differs(listen, own := options.peers[options.name]):
        log.warning(
            "this server listens at %s, and --peers say that it is to be dialled at %s: if the one does"
            " not lead to the other, nobody finds it server=%s",
            listen, own, options.name,
        )  # fmt: skip
    if scarce := scarcity():
        log.warning("%s server=%s", scarce, options.name)
    try:
        asyncio.run(_live(options, listen, directory, fail_entries))
    except RuntimeError as error:
        # To end its threads asyncio starts one more. Where none is to be had, why the server stopped
        # must not be lost behind that.
        if isinstance(
            reason := error.__context__, StorageError | CopycatError | OSError | MemoryError
        ):
            raise reason from None
        raise
    finally:
        log_writer.close()


async def _live(
    options: ServerOptions, listen: str, directory: Path, fail_entries: tuple[int, ...]
) -> None:
    host = _host(options, listen, directory, fail_entries)
    received: list[signal.Signals] = []
    loop = asyncio.get_running_loop()
    living = loop.create_task(_start_and_wait(host, listen, directory))

    def take(number: signal.Signals) -> None:
        received.append(number)
        living.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, take, number)
    try:
        await living
    except asyncio.CancelledError:
        if not received:
            raise
    finally:
        host.stop()
        await asyncio.sleep(0)  # closed sockets are let go of in the loop's next turn
    log.info("stopped server=%s signal=%s", options.name, received[0].name if received else "-")
    if received and received[0] == signal.SIGINT:
        raise KeyboardInterrupt


def _host(
    options: ServerOptions, listen: str, directory: Path, fail_entries: tuple[int, ...]
) -> ServerHost:
    try:
        return ServerHost(options, listen=listen, directory=directory, fail_entries=fail_entries)
    except DirectoryInUseError:
        raise
    except OSError as error:
        raise ConfigurationError(
            f"the data directory {directory} cannot be used: {error.strerror or error}"
        ) from error


async def _start_and_wait(host: ServerHost, listen: str, directory: Path) -> None:
    await host.start()
    host.own_process()
    log.info("serving server=%s endpoint=%s data=%s", host.options.name, listen, directory)
    await host.wait()


class LogFormatter(logging.Formatter):
    """One line for what a server or its disk may meet; a traceback for a bug, which needs one."""

    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        """The line, in which nothing can look like another one or reach a terminal as a command:
        what strangers and users' code say stands in it."""
        line = super().formatMessage(record)
        return line if line.isprintable() else "".join(map(_shown, line))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name in logging
        """Nothing, or where a bug showed itself. What is none is the last line of the process."""
        if isinstance(ei[1], CopycatError | StorageError | OSError):
            return ""
        return super().formatException(ei)


def _shown(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


def _log_to_stderr() -> LogWriter:
    """Say on stderr what happens to this server, and what its loop complains of. Other libraries
    stay silent."""
    handler = LogWriter()
    handler.setFormatter(LogFormatter(LOG_FORMAT, "%Y-%m-%dT%H:%M:%S"))
    ours = logging.getLogger("copycat")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    logging.getLogger("asyncio").addHandler(handler)
    return handler


def _open_standard_descriptors() -> None:
    """Let those that were closed when the process was started lead nowhere. Else the next file that is
    opened gets their numbers, and lines for stderr are written into the log of the cluster."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _raise_limit_of_descriptors() -> None:
    """Let this process have as many descriptors as it may: each connection takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # then it goes on with what it has
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _differs(listen: str, dialled: str) -> bool:
    """Whether a server may listen elsewhere than where others dial it."""
    (host, port), (_, other_port) = parse_endpoint(listen), parse_endpoint(dialled)
    return listen != dialled and not (host in {"0.0.0.0", "::"} and port == other_port)


def _check_loopback(endpoint: str) -> None:
    """Refuse an address that others can reach, or that may be one.

    Raises:
        ConfigurationError: it is not of this machine alone.
    """
    host, port = parse_endpoint(endpoint)
    try:
        found = {item[4][0] for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        if all(ipaddress.ip_address(address).is_loopback for address in found):
            return
    except (OSError, ValueError):
        pass  # a name that nobody knows now may mean anything later
    raise ConfigurationError(
        f"{endpoint} is not an address of this machine alone, and there is no TLS yet: whoever"
        " reaches it can read and write everything; add --insecure if that network is trusted"
    )


def _loaded(text: str) -> tuple[str, type[StateMachine]]:
    """Name and class of a type of resources, from ``[name=]module:class``.

    Raises:
        ConfigurationError: there is no such class, or it is no state machine.
    """
    name, _, place = text.rpartition("=")
    module, _, attribute = place.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module of yours lies where you are
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # a module may do anything when it is loaded
        frames = traceback.extract_tb(error.__traceback__)[1:]
        theirs = [frame for frame in frames if not frame.filename.startswith("<frozen ")]
        place = f" at {theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""
        said = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise ConfigurationError(f"--load {text}: module {module!r}: {said}{place}") from error
    if not (isinstance(found, type) and issubclass(found, StateMachine)):
        raise ConfigurationError(f"--load {text}: {attribute} is not a class of state machines")
    return name or found.__name__.removesuffix("Machine").lower(), found
