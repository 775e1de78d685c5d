"""Who this server is, and which servers form its cluster.

Both are written once, at the first start, and only compared later: a wiped server draws another
id and is thereby known as wiped. Drawing ids and agreeing on them is the server's affair.
"""

import hashlib
import itertools
import struct
from collections.abc import Iterable

from copycat.actors.environment import Disk
from copycat.storage.errors import IdentityCorruptError
from copycat.storage.small_file import SmallFile

_NUMBER = struct.Struct("<Q")
_SERVER = struct.Struct("<QH")  # server id, bytes of the name that follows
_DIGEST_DOMAIN = b"copycat cluster 1"
_NAME_BYTES_MAX = 0xFFFF


def cluster_id_of(servers: Iterable[tuple[str, int]]) -> int:
    """The id of the cluster that these servers found, whatever order they come in; never 0.

    Args:
        servers: name and server id of each.
    """
    digest = hashlib.sha256(_DIGEST_DOMAIN + _encode_servers(sorted(servers))).digest()
    return int.from_bytes(digest[:8], "big") or 1


def _encode_servers(servers: Iterable[tuple[str, int]]) -> bytes:
    parts = []
    for name, server_id in servers:
        encoded = name.encode()
        assert 0 < len(encoded) <= _NAME_BYTES_MAX, "a server has a name of sensible length"
        parts.append(_SERVER.pack(server_id, len(encoded)) + encoded)
    return b"".join(parts)


def _decode_servers(content: bytes) -> tuple[tuple[str, int], ...]:
    """The opposite of ``_encode_servers``; raises ValueError or struct.error."""
    servers = []
    at = 0
    while at < len(content):
        server_id, name_bytes = _SERVER.unpack_from(content, at)
        at += _SERVER.size
        name = content[at : at + name_bytes]
        if not 0 < len(name) == name_bytes:
            raise ValueError("a name is cut off")
        servers.append((name.decode(), server_id))
        at += name_bytes
    return tuple(servers)


class ServerIdentity(SmallFile):
    """This server's own name and id, drawn at its first start.

    It is written when everything else that a server has from its first start on is durable.

    Attributes:
        name: the name it was first started with; empty before that.
        server_id: 64 random bits; 0 when none was drawn yet.
    """

    NAME = "identity"
    MAGIC = b"CopyIden"
    TOKEN = 2
    VERSION = 2  # since then floor, ballot and lives are there before it
    CORRUPT = IdentityCorruptError

    __slots__ = ("name", "server_id")

    def __init__(self, disk: Disk) -> None:
        """Load the identity, if there is one.

        Raises:
            IdentityCorruptError: the file is damaged. It is never replaced by a fresh one.
            DiskFailedError: it cannot be read.
        """
        super().__init__(disk)
        self.name = ""
        self.server_id = 0
        content = self._load()
        if content is not None:
            try:
                ((self.name, self.server_id),) = _decode_servers(content)
            except (ValueError, struct.error) as error:
                raise IdentityCorruptError(self.NAME, str(error)) from error

    def _content(self) -> bytes:
        return _encode_servers([(self.name, self.server_id)])

    def establish(self, name: str, server_id: int) -> None:
        """Become this server, for ever."""
        assert self.server_id == 0, "a server has one identity"
        assert server_id != 0, "0 stands for no server"
        self.name = name
        self.server_id = server_id
        self.written += 1


class ClusterConfiguration(SmallFile):
    """The servers that founded the cluster, as they agreed at the first start.

    Attributes:
        cluster_id: the digest of ``servers``; 0 before they agreed.
        servers: name and server id of each, sorted by name.
    """

    NAME = "configuration"
    MAGIC = b"CopyConf"
    TOKEN = 3
    CORRUPT = IdentityCorruptError

    __slots__ = ("cluster_id", "servers")

    def __init__(self, disk: Disk) -> None:
        """Load the configuration, if there is one.

        Raises:
            IdentityCorruptError: the file is damaged. It is never replaced by a fresh one.
            DiskFailedError: it cannot be read.
        """
        super().__init__(disk)
        self.cluster_id = 0
        self.servers: tuple[tuple[str, int], ...] = ()
        content = self._load()
        if content is not None:
            try:
                (self.cluster_id,) = _NUMBER.unpack_from(content)
                self.servers = _decode_servers(content[_NUMBER.size :])
            except (ValueError, struct.error) as error:
                raise IdentityCorruptError(self.NAME, str(error)) from error

    def _content(self) -> bytes:
        return _NUMBER.pack(self.cluster_id) + _encode_servers(self.servers)

    def establish(self, servers: Iterable[tuple[str, int]]) -> None:
        """Found the cluster of these servers, given by name and id."""
        founders = tuple(sorted(servers))
        assert self.cluster_id == 0, "a cluster is founded once"
        assert founders, "a cluster has servers"
        names = [name for name, _ in founders]
        ids = sorted(server_id for _, server_id in founders)
        assert all(a < b for a, b in itertools.pairwise(names)), "names are unique"
        assert all(a < b for a, b in itertools.pairwise(ids)), "ids are unique"
        assert ids[0] != 0, "0 stands for no server"
        self.cluster_id = cluster_id_of(founders)
        self.servers = founders
        self.written += 1
