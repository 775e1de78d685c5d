"""The actor runtime: addresses, messages and two worlds to run in; it knows no Raft.

The worlds are imported by name: ``copycat.actors.network`` and ``copycat.actors.simulation``.
"""

from copycat.actors.actor import Actor
from copycat.actors.address import NodeAddress
from copycat.actors.environment import Environment, Identity
from copycat.actors.message import Plain, message
from copycat.actors.system import Node

__all__ = ["Actor", "Environment", "Identity", "Node", "NodeAddress", "Plain", "message"]
