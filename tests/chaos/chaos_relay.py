"""A relay in user space: what one server sends another comes late, slowly, or not at all.

Kernels without netem exist, so packets are held back here. Every server's network has a tunnel, the
device ``relay``. While a route leads through it, the kernel gives packets for another server to this
program, which lets them out of the tunnel of that server when their time has come. Addresses stay
as they are, so connections that are up go on through it.

It runs beside the networks, ``python chaos_relay.py n1 n2 n3``, and takes one line of JSON after the
other: ``[[[source, target], ...], delay_s, bytes_per_s, loss]``. Each is answered by a line with how
many packets it has carried and lost so far.
"""

import asyncio
import ctypes
import fcntl
import json
import os
import random
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass

DEVICE = "relay"
QUEUE_BYTES_MAX = 512 * 1024
"""What waits in one direction; the rest is lost, as in a router."""

PACKET_BYTES_MAX = 65_536
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
TARGET = slice(16, 20)  # the address in the header of an IPv4 packet


@dataclass(slots=True)
class Wire:
    """One direction between two servers.

    Attributes:
        delay_s: how long each packet takes.
        bytes_per_s: how much passes.
        loss: how many of all packets are lost.
        free_s: when all that has come is through.
    """

    delay_s: float
    bytes_per_s: float
    loss: float
    free_s: float = 0.0

    def due_s(self, now_s: float, size_bytes: int, chance: float) -> float | None:
        """When a packet that comes now arrives; None when it is lost.

        Args:
            now_s: the clock.
            size_bytes: of the packet.
            chance: drawn from 0 to 1.
        """
        waiting_bytes = max(0.0, self.free_s - now_s) * self.bytes_per_s
        if chance < self.loss or waiting_bytes + size_bytes > QUEUE_BYTES_MAX:
            return None
        self.free_s = max(self.free_s, now_s) + size_bytes / self.bytes_per_s
        return self.free_s + self.delay_s


class Relay:
    """The tunnels of all servers, and the wires between them."""

    def __init__(self, names: Sequence[str], addresses: Sequence[bytes]) -> None:
        self.wires: dict[tuple[str, str], Wire] = {}
        self.carried = 0
        self.lost = 0
        self._names = dict(zip(addresses, names, strict=True))
        self._tunnels = {name: _tunnel_of(name) for name in names}
        self._loop = asyncio.get_running_loop()
        for name, tunnel in self._tunnels.items():
            self._loop.add_reader(tunnel, self._take, name, tunnel)

    def _take(self, source: str, tunnel: int) -> None:
        packet = os.read(tunnel, PACKET_BYTES_MAX)
        target = self._names.get(packet[TARGET], "")
        wire = self.wires.get((source, target))
        if not target:
            return  # the kernel asks for neighbours of its own accord
        now_s = self._loop.time()
        due_s = now_s if wire is None else wire.due_s(now_s, len(packet), random.random())
        if due_s is None:
            self.lost += 1
        else:
            self.carried += 1
            self._loop.call_at(due_s, os.write, self._tunnels[target], packet)


def _tunnel_of(name: str) -> int:
    """Open the tunnel in the network of this server."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if libc.setns(other, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"the network of {name} cannot be entered")
        tunnel = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tunnel, TUNSETIFF, struct.pack("16sH", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
        if libc.setns(own, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "the own network cannot be entered again")
    finally:
        os.close(own)
        os.close(other)
    return tunnel


async def main(places: Sequence[str]) -> None:
    """Relay until the input ends.

    Args:
        places: name=address of each server.
    """
    pairs = [place.partition("=") for place in places]
    addresses = [bytes(map(int, address.split("."))) for _, _, address in pairs]
    relay = Relay([name for name, _, _ in pairs], addresses)
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print(json.dumps([0, 0]), flush=True)
    while line := await orders.readline():
        wires, delay_s, bytes_per_s, loss = json.loads(line)
        relay.wires = {
            (source, target): Wire(delay_s, bytes_per_s, loss) for source, target in wires
        }
        print(json.dumps([relay.carried, relay.lost]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
