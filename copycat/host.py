"""ServerHost: one server in the real world, on the running event loop.

It puts a ``Server`` actor into a network node with a directory and a listening port, and has its
calls of users' code watched. A process that does nothing else (``copycat serve``) also hands it the
cyclic garbage collector, which would stop the loop for long when the log is large: nothing on the
server's paths makes cycles.
"""

import asyncio
import contextlib
import ctypes
import gc
import logging
from dataclasses import replace
from pathlib import Path

from copycat.actors.environment import Identity
from copycat.actors.network import NetworkNode
from copycat.errors import ConfigurationError
from copycat.failed_entries import failed_entries, keep_failed_entries
from copycat.protocol.client import SERVER
from copycat.server.entries import command_at
from copycat.server.options import ServerOptions
from copycat.server.roles.leader import Leader
from copycat.server.server import Server
from copycat.watchdog import Watchdog

log = logging.getLogger("copycat.server")

COLLECT_EVERY_S = 30.0
MAPPED_BYTES_MIN = 16 << 20  # what is larger is given back to the system as soon as it is free
KEPT_BYTES_MAX = 64 << 20  # of free memory
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
POLL_S = 0.001


class ServerHost:
    """A server with its node; made on the loop it is going to live on."""

    def __init__(
        self,
        options: ServerOptions,
        *,
        listen: str,
        directory: Path,
        shares_loop: bool = False,
        fail_entries: tuple[int, ...] = (),
    ) -> None:
        """Load the server's files; nobody reaches it before ``start``.

        Args:
            options: the server's settings.
            listen: "host:port" to be dialled at.
            directory: where its files are, made if there is none; one process may use it.
            shares_loop: other nodes or programs run on this loop too.
            fail_entries: the indexes of commands that nobody is to carry out from now on.

        Raises:
            DirectoryInUseError: another process uses the directory.
            StorageError: a file is damaged or cannot be read.
            ConfigurationError: the options contradict what is stored, or an index in
                ``fail_entries`` is that of no command.
        """
        self.options = options
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._node = NetworkNode(
            Identity(options.name), listen=listen, directory=directory, shares_loop=shares_loop
        )
        self._node.on_failure = self._failed
        try:
            decided = failed_entries(directory)
            self.options = options = replace(options, failed_entries=decided)
            self._node.spawn(Server, options, serial=SERVER)
            self._fail(fail_entries, directory)
        except BaseException:
            self._node.stop()
            raise
        self._watchdog = Watchdog(self._server().users_code)

    def _fail(self, more: tuple[int, ...], directory: Path) -> None:
        """Add to the commands that are carried out by nobody, before any is; say which they are."""
        server, decided = self._server(), self.options.failed_entries
        told = {index: command_at(server.log, index) for index in more if index not in decided}
        if told:
            decided |= told.keys()
            keep_failed_entries(directory, decided)
            self.options = replace(self.options, failed_entries=decided)
            server.fail_entries(decided)
        for index in sorted(decided):
            if index not in told:
                try:
                    told[index] = command_at(server.log, index)
                except ConfigurationError:
                    told[index] = "not in the log of this server"
            log.warning("command is failed, for ever index=%d %s", index, told[index])

    async def start(self) -> None:
        """Listen, and look for the others.

        Raises:
            ListenError: the port is in use or not of this machine.
            DiskFailedError: the server's identity could not be written.
        """
        self._watchdog.start()
        try:
            # Whoever connects is told this server's id, so the id must be durable first.
            while not (  # noqa: ASYNC110 - an actor has no asyncio to wake with
                self._node.stopped or self._server().membership.introduced
            ):
                await asyncio.sleep(POLL_S)
            if self._node.failure is not None:
                raise self._node.failure
            await self._node.start()
        except BaseException:
            self._node.stop()
            self._watchdog.stop()
            raise

    async def wait(self) -> None:
        """Return when the server was stopped; raise what made it fail."""
        await asyncio.shield(self._ended)

    def stop(self) -> None:
        """Stop at once. What was acknowledged is on the disks of a majority."""
        self._node.stop()
        self._watchdog.stop()
        if not self._ended.done():
            self._ended.set_result(None)

    @property
    def stopped(self) -> bool:
        """Whether it has been stopped or has failed."""
        return self._node.stopped

    def leads(self) -> bool:
        """Whether this server leads, by its own account."""
        return not self.stopped and self._server().role_title == Leader.title

    def _server(self) -> Server:
        server = self._node.actor_at(SERVER)
        assert isinstance(server, Server), "the well-known serial is the server's"
        return server

    def own_process(self) -> None:
        """Take over the cyclic garbage collector and a signal for the watchdog: this process is the
        server and nothing else, and this its main thread.

        Everything loaded so far is never looked at again; young cycles, which only exceptions and
        libraries make, are collected now and then.
        """
        self._watchdog.own_signal()
        keep_free_memory()
        gc.collect()
        gc.freeze()
        gc.disable()
        self._collect_later()

    def _collect_later(self) -> None:
        asyncio.get_running_loop().call_later(COLLECT_EVERY_S, self._collect)

    def _collect(self) -> None:
        if not self._node.stopped:
            gc.collect(0)
            self._collect_later()

    def _failed(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)
            self._ended.exception()  # looked at: nobody may be waiting


def keep_free_memory() -> None:
    """Use the memory of large values and frames again rather than have the system map, and clear, new
    pages for each: that takes as long as all else that is done with them."""
    with contextlib.suppress(OSError, AttributeError):  # another system, or another C library
        c_library = ctypes.CDLL(None)
        c_library.mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES_MIN)
        c_library.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES_MAX)
