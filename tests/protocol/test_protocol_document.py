"""docs/protocol.md lists the messages that travel, with their numbers."""

import importlib
import pkgutil
import re
from pathlib import Path

import copycat.protocol
from copycat.actors import hello
from copycat.actors.message import MESSAGES

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"


def test_every_message_that_travels_is_listed_with_its_number() -> None:
    """The table of the document is the table of the code: no message more, none less."""
    modules = {hello.__name__}
    for module in pkgutil.iter_modules(copycat.protocol.__path__):
        modules.add(importlib.import_module(f"copycat.protocol.{module.name}").__name__)
    code = {
        number: message.__name__
        for number, message in MESSAGES.items()
        if message.__module__ in modules
    }
    listed = {
        int(number): name
        for number, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", DOCUMENT.read_text(), re.M)
    }
    assert listed == code
