"""AsyncClient: a program's session with a cluster, on the asyncio loop the program runs on.

In the simulated world the very same client runs on the simulated loop.
"""

import asyncio
import secrets
from math import inf
from typing import Any, ClassVar, Protocol, TypeVar

from copycat.actors.environment import Identity
from copycat.actors.network import NetworkNode
from copycat.actors.system import Node
from copycat.client.calls import (
    Call,
    Close,
    CommandCall,
    ConnectCall,
    Flush,
    OpenCall,
    QueryCall,
)
from copycat.client.endpoints import checked_endpoints
from copycat.client.loop_inbox import EventListener, LoopInbox, SessionListener
from copycat.client.options import ServerSelection, SessionOptions
from copycat.client.servers import SharedLinks
from copycat.client.session import ClientSession
from copycat.errors import ClientClosed, InvalidArgument, InvalidType
from copycat.protocol.client import Consistency
from copycat.types import NAME_CHARACTERS_MAX, ResourceId, SessionId

SUFFIX_BYTES = 4
FOR_EVER_S = 1e18  # an int may be larger than any float


class Handle(Protocol):
    """What ``AsyncClient.open`` makes: a resource as one client sees it."""

    resource_type: ClassVar[str]
    resource_version: ClassVar[int]

    def __init__(self, client: Any, resource_id: int, name: str) -> None: ...


H = TypeVar("H", bound=Handle)


class AsyncClient:
    """A session with a cluster, for programs that run on asyncio.

    Use it as ``async with AsyncClient("host:port") as client``. It belongs to the loop it was
    connected on, and to one thread. Operations are sent in the order in which they were
    submitted, all of one turn of the loop together; each command is applied at most once,
    whatever happens to connections and servers.

    Every operation ends by its deadline. An error that is a ``NotApplied`` means that it did not
    happen and will not; ``OutcomeUnknown`` that it may have, or may still; ``OperationFailed``, with
    state machines of your own, that it was carried out once and ended by an exception. To cancel
    what awaits an operation only stops the waiting: the command may still happen.
    """

    def __init__(
        self,
        *endpoints: str,
        timeout_s: float = 5.0,
        session_timeout_s: float = 10.0,
        name: str = "",
        server_selection: ServerSelection = "leader",
        node: Node | None = None,
    ) -> None:
        """Make a client; nothing is sent before ``connect``.

        Args:
            endpoints: ``host:port`` of some servers, the preferred first; the others are learnt
                from them. None: those in the environment variable ``COPYCAT_ENDPOINTS``.
            timeout_s: the deadline of a call that names none; ``math.inf`` waits for ever.
            session_timeout_s: without a sign of life for so long the cluster ends the session.
            name: for people who look at the cluster.
            server_selection: ``leader`` follows the leader; ``any`` stays with the first server
                that was reached, until it fails.
            node: to live in; None makes one of its own.

        Raises:
            InvalidArgument: an endpoint is no ``host:port``, or a number is out of range.
        """
        self._options = SessionOptions(
            checked_endpoints(endpoints), name, session_timeout_s, server_selection
        )
        self._options.check()
        self.timeout_s = _checked(timeout_s)
        self._node = node
        self._household: _Household | None = None
        self._inbox: LoopInbox | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self._turn_s = 0.0  # when the first call of this turn was made
        self._numbers = 0
        self._resources: dict[tuple[str, int, str], ResourceId] = {}

    # Its life.

    async def connect(self) -> "AsyncClient":
        """Open the session; ``async with`` does it. A client is connected once.

        Raises:
            Unreachable, NoLeader: there was no session within ``timeout_s``; the error names
                what each endpoint said. The client is closed.
        """
        if self._loop is not None or self._closing:
            raise InvalidArgument("a client is connected once; make a new one")
        loop = self._loop = asyncio.get_running_loop()
        if self._household is None:
            self._household = await _Household.found(loop, self._node, self._options.name)
        household = self._household
        inbox = LoopInbox(loop, household.node.call_after_turn)
        household.members += 1
        self._inbox = inbox
        self._clock = household.node.environment.clock
        self._session = household.node.spawn(ClientSession, self._options, inbox, household.links)
        connected: asyncio.Future[SessionId] = loop.create_future()
        self._submit(ConnectCall(self._deadline_s(None), connected))
        try:
            await connected
        except BaseException:
            await self.close()
            raise
        return self

    async def new_session(
        self,
        *,
        timeout_s: float | None = None,
        session_timeout_s: float | None = None,
        name: str | None = None,
    ) -> "AsyncClient":
        """Open another session over the same connections: sessions are cheap, connections are not.

        Args:
            timeout_s, session_timeout_s, name: None: as in this client.

        Returns:
            A connected client, to be closed like any other and independently of this one.
        """
        options = self._options
        other = AsyncClient(
            *options.endpoints,
            timeout_s=self.timeout_s if timeout_s is None else timeout_s,
            session_timeout_s=options.timeout_s if session_timeout_s is None else session_timeout_s,
            name=options.name if name is None else name,
            server_selection=options.selection,
        )
        self._connected()
        other._household = self._household
        return await other.connect()

    async def close(self) -> None:
        """End the session, and with it all that it holds; at most a second is waited for it.

        Calls under way end with ``ClientClosed`` if they were not sent, else ``OutcomeUnknown``.
        Closing twice does nothing.

        Raises:
            InvalidArgument: another event loop runs here than the client was connected on.
        """
        if self._inbox is None or self._household is None:
            self._closing = True
            return
        self._check_loop()
        node = self._household.node
        if not self._closing:
            self._closing = True
            if not node.stopped:
                node.tell(self._session, Close())
        if not node.stopped:
            await asyncio.shield(self._inbox.closed)
        household, self._household = self._household, None
        if household is not None:
            await household.leave()

    async def __aenter__(self) -> "AsyncClient":
        return await self.connect()

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient {self._options.name!r} {self.state} session={self.session_id}>"

    @property
    def state(self) -> str:
        """``connecting``, ``connected``, ``suspended``, ``lost`` or ``closed``.

        ``suspended`` means that the session may have expired without this client's knowing, so
        that nothing it holds can be relied on; it may recover from that.
        """
        if self._closing:
            return "closed"  # all calls have ended, though the session may take a moment longer
        return "connecting" if self._inbox is None else self._inbox.state

    @property
    def session_id(self) -> SessionId:
        """The session in use; 0 while there is none. After a loss the next one has another id."""
        return self._inbox.session if self._inbox is not None else 0

    # Resources.

    async def open(self, handle: type[H], name: str, *, timeout_s: float | None = None) -> H:
        """Open a resource, making it if there is none of this name.

        Args:
            handle: the class of its handle, such as ``AsyncDistributedMap``.
            name: 1 to 255 printable characters; every name belongs to one type.
            timeout_s: None: the client's; ``math.inf`` waits for ever.

        Raises:
            InvalidType: it is no class of asyncio handles.
            WrongResourceType: the name belongs to a resource of another type.
            UnknownResourceType: a voting server does not know the type.
        """
        if (
            type(name) is not str
            or not 0 < len(name) <= NAME_CHARACTERS_MAX
            or not name.isprintable()
        ):
            raise InvalidArgument(
                f"a resource's name has 1 to {NAME_CHARACTERS_MAX} printable characters, not"
                f" {name!r:.60}"
            )
        try:
            kind, version = handle.resource_type, handle.resource_version
        except AttributeError:
            raise InvalidType(
                f"{name_of(handle)} is no asyncio handle, which has a `resource_type` and a"
                " `resource_version`; those of copycat.resources begin with Async"
            ) from None
        resource = self._resources.get((kind, version, name))
        if resource is None:
            future = self._connected().create_future()
            deadline_s = self._deadline_s(timeout_s)
            self._submit(OpenCall(name, kind, version, deadline_s, future))
            resource = self._resources[kind, version, name] = await future
        return handle(self, resource, name)

    def submit_command(
        self, resource: ResourceId, method: str, *arguments: Any, timeout_s: float | None = None
    ) -> asyncio.Future[Any]:
        """Submit a command at once; handles are the comfortable way.

        Args:
            resource: as ``open`` found it.
            method: of its state machine.
            arguments: what the codec carries; they may be changed when the loop's turn is over.
            timeout_s: None: the client's; ``math.inf`` waits for ever.

        Returns:
            A future with the command's result. Commands complete in the order of submission.
        """
        future = self._connected().create_future()
        self._submit(
            CommandCall((resource, method, *arguments), self._deadline_s(timeout_s), future)
        )
        return future

    def submit_query(
        self,
        resource: ResourceId,
        method: str,
        *arguments: Any,
        timeout_s: float | None = None,
        consistency: Consistency = Consistency.LINEARIZABLE,
    ) -> asyncio.Future[Any]:
        """Submit a query at once, like ``submit_command``.

        It sees at least what the commands submitted before it have done, and completes after
        them. A query changes nothing, so every error of it is a ``NotApplied``.

        Raises:
            InvalidArgument: there is no such consistency.
        """
        if consistency.__class__ is not Consistency:  # no call, as this is for each query
            consistency = _known(consistency)
        future = self._connected().create_future()
        deadline_s = self._deadline_s(timeout_s)
        self._submit(QueryCall((resource, method, *arguments), deadline_s, future, consistency))
        return future

    def _connected(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._closing:
            raise ClientClosed(
                "the client has been closed"
                if self._closing
                else "the client is not connected: use it in `async with`"
            )
        self._check_loop()
        return self._loop

    def _check_loop(self) -> None:
        """Refuse what another loop asks for before anything is sent: it could not be answered there,
        and its caller would not learn whether it had happened."""
        if asyncio._get_running_loop() not in (self._loop, None):
            raise InvalidArgument(
                "this client belongs to the event loop that it was connected on, and this is"
                " another one: connect a client in each"
            )

    def _deadline_s(self, timeout_s: float | None) -> float:
        assert self._inbox is not None, "deadlines are for connected clients"
        if not self._inbox.calls:
            self._turn_s = self._clock.monotonic_s()
        return self._turn_s + (self.timeout_s if timeout_s is None else _checked(timeout_s))

    def _submit(self, call: Call) -> None:
        """Put a call in the inbox; the session takes all of this turn at once."""
        assert self._inbox is not None, "calls are for connected clients"
        calls = self._inbox.calls
        if not calls:
            assert self._household is not None, "a connected client lives in a node"
            self._household.node.tell(self._session, _FLUSH)
        calls.append(call)

    # For handles.

    def listen(self, resource: ResourceId, listener: EventListener, /) -> None:
        """Tell a listener each event of a resource that reaches this session, in order, on the
        loop: its name, its values, and the index of the entry that published it."""
        self._listening().listen(resource, listener)

    def unlisten(self, resource: ResourceId, listener: EventListener, /) -> None:
        """Tell it no more; one that does not listen is ignored."""
        self._listening().unlisten(resource, listener)

    def on_session(self, listener: SessionListener, /) -> None:
        """Tell a listener each change of ``state``, and the session it speaks of."""
        self._listening().on_session(listener)

    def off_session(self, listener: SessionListener, /) -> None:
        """Tell it no more; one that does not listen is ignored."""
        self._listening().off_session(listener)

    def _listening(self) -> LoopInbox:
        if self._inbox is None:
            raise ClientClosed("the client is not connected: use it in `async with`")
        return self._inbox

    def new_future(self) -> asyncio.Future[Any]:
        """A future of the client's loop, for a handle that settles it itself."""
        return self._connected().create_future()

    def new_number(self) -> int:
        """The next of the numbers 1, 2, 3 ... of this client: never the same twice."""
        self._numbers += 1
        return self._numbers

    def loop_time(self) -> float:
        """Seconds on the clock that deadlines are measured with."""
        self._connected()
        return self._clock.monotonic_s()


_FLUSH = Flush()


class _Household:
    """The node that several sessions live in, and its links."""

    def __init__(self, node: Node, *, is_own: bool) -> None:
        self.node = node
        self.links = SharedLinks(Identity(node.name) if is_own else None)
        self.members = 0
        self._is_own = is_own

    @classmethod
    async def found(
        cls, loop: asyncio.AbstractEventLoop, node: Node | None, name: str
    ) -> "_Household":
        """Use a node, or make one in the world that the loop belongs to."""
        if node is not None:
            return cls(node, is_own=False)
        name = name or "client"
        simulation = getattr(loop, "simulation", None)
        if simulation is not None:
            identity = Identity(f"{name}-{len(simulation.nodes) + 1}")
            return cls(simulation.node(identity), is_own=True)
        made = NetworkNode(Identity(f"{name}-{secrets.token_hex(SUFFIX_BYTES)}"), shares_loop=True)
        await made.start()
        return cls(made, is_own=True)

    async def leave(self) -> None:
        """One session fewer; the last one stops a node that was made for them."""
        self.members -= 1
        if not self.members and self._is_own and not self.node.stopped:
            self.node.stop()
            await asyncio.sleep(0)  # closed sockets are let go of in the loop's next turn


def name_of(handle: object) -> str:
    """What somebody gave as the class of a handle, for an error."""
    return handle.__name__ if isinstance(handle, type) else repr(handle)[:60]


def _known(consistency: object) -> Consistency:
    """The consistency of this value; the values are those of the wire."""
    try:
        return Consistency(consistency)  # type: ignore[arg-type]
    except ValueError:
        known = " or ".join(f"copycat.Consistency.{each.name}" for each in Consistency)
        raise InvalidArgument(f"consistency is {known}, not {consistency!r}") from None


def _checked(timeout_s: float) -> float:
    if not isinstance(timeout_s, int | float) or not timeout_s >= 0:  # also what is no number
        raise InvalidArgument(
            f"a timeout is a number of seconds, or math.inf to wait for ever, not {timeout_s!r}"
        )
    return timeout_s if timeout_s < FOR_EVER_S else inf
