"""What a server says when it stops."""

import asyncio
import threading
from pathlib import Path
from unittest.mock import Mock

import pytest

from copycat.console import serving
from copycat.machine import installed_catalog
from copycat.server.options import ServerOptions
from copycat.storage.errors import DiskFailedError


@pytest.mark.parametrize(
    "reason",
    [
        DiskFailedError("sync the log", "can't start new thread"),
        OSError(28, "no space"),
        MemoryError(),
    ],
    ids=repr,
)
def test_the_reason_is_told_though_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch, reason: Exception
) -> None:
    """asyncio needs a thread to end those in which it looked up names; that it gets none is not why
    the server stopped."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def live(*_arguments: object) -> None:
        await asyncio.get_running_loop().run_in_executor(None, str)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        raise reason

    monkeypatch.setattr(serving, "_live", live)
    for prepares in ("_open_standard_descriptors", "_raise_limit_of_descriptors", "_log_to_stderr"):
        monkeypatch.setattr(serving, prepares, Mock())
    options = ServerOptions(
        name="n1", peers={"n1": "127.0.0.1:7401"}, catalog=installed_catalog({})
    )
    with pytest.raises(type(reason)) as told:
        serving.serve(options, listen="127.0.0.1:7401", directory=Path(), insecure=False)
    assert told.value is reason
