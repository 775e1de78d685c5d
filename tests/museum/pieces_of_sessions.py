"""Bugs of reads, sessions, events, locks, time and determinism."""

from piece import Piece

APPLIER = "copycat/server/applier.py"
COMMANDS = "copycat/client/commands.py"
CONTACT = "copycat/client/contact.py"
DELIVERY = "copycat/server/delivery.py"
EVENT_ORDER = "copycat/client/event_order.py"
LEADER = "copycat/server/roles/leader.py"
LOCK = "resources/lock.py"
MAP = "resources/map.py"
READING = "copycat/server/reading.py"
READS_OF_SERVER = "copycat/server/reads.py"
RESOURCE = "copycat/server/resource.py"
SERVER = "copycat/server/server.py"
SESSION = "copycat/server/session.py"
WINDOW = "copycat/server/window.py"

READS = [
    Piece(
        "a read is confirmed by the leader itself",
        "Copycat 6a9f491f (members without a vote counted for reads)",
        LEADER,
        "confirmed = rounds[-self.server.options.majority]",
        "confirmed = rounds[-1]",
    ),
    Piece(
        "an answer to an earlier question confirms a later read",
        "Raft §6.4 (a heartbeat that was sent before the read confirms it)",
        LEADER,
        "self._rounds.current += 1",
        "self._rounds.current += 0",
    ),
    Piece(
        "the answer to an earlier question for an index is taken for that to a later one",
        "etcd #20418 (the id of a read index is used again)",
        READS_OF_SERVER,
        "self._requests += 1",
        "self._requests = 1",
    ),
    Piece(
        "a server reads before it has applied what the read must see",
        "etcd #3879 (reads served before a restarted server has caught up)",
        READING,
        "index if queries is None else max(index, queries.index)",
        "index if queries is None else queries.index",
        faults=("slow disk",),
    ),
    Piece(
        "a query does not wait for the commands before it",
        "Copycat #222 (queries and commands out of order in the sequencer)",
        READING,
        "elif queries.sequence > self._progress.sequences.get(queries.session, queries.sequence):",
        "elif queries.sequence < 0:",
    ),
    Piece(
        "a session that moves to another server goes back in time",
        "ZooKeeper (reads of a server that lags; Jepsen 2013)",
        READING,
        "index if queries is None else max(index, queries.index)",
        "index",
    ),
    Piece(
        "the leader answers reads without asking anybody",
        "etcd 0.4.1 (Jepsen 2014); Copycat (lease read without any check)",
        LEADER,
        "self._reads.append(\n"
        "            (self._rounds.current, self.server.commit_index, sender, message.request)\n"
        "        )",
        "self.send(sender, ReadIndexReply(message.request, self.server.commit_index))",
        faults=("isolate leader", "pause"),
    ),
    Piece(
        "a new leader serves reads before it has committed anything",
        "RedisRaft #18; Copycat (reads before the first own entry)",
        LEADER,
        "if not self._ready:\n            self._keep_early(message, sender)\n            return\n"
        "        if self._rounds",
        "if self._rounds",
        faults=("crash leader",),
        rare=True,
    ),
]

SESSIONS = [
    Piece(
        "a command that may be on its way is withdrawn, and another gets its number",
        "jetcd 0.8.2 (Jepsen 2024); Copycat fceb375a (sent again while the first copy is on its way)",
        COMMANDS,
        "places and batch.first_sequence and self._is_clean_from(batch)",
        "places and batch.first_sequence",
    ),
    Piece(
        "a command is applied before the one it follows",
        "Copycat #267 (early commands)",
        WINDOW,
        "if message.first_sequence > appended + 1:",
        "if message.first_sequence < 0:",
        faults=("network", "reset"),
    ),
    Piece(
        "an answer is forgotten when the next command comes",
        "Copycat (results dropped by a session's own newer command)",
        SESSION,
        "freed_bytes = self._trim(message.response_sequence, message.event_sequence)",
        "freed_bytes = self._trim(message.first_sequence - 1, message.event_sequence)",
        faults=("network",),
    ),
    Piece(
        "a client acknowledges answers that were lost",
        "Copycat (results dropped that nobody has received)",
        COMMANDS,
        "self.answered_sequence,\n                event_sequence,",
        "self.last_sequence,\n                event_sequence,",
        faults=("network",),
    ),
    Piece(
        "a retry is not answered, for the command was applied before",
        "Copycat 60b0156f (duplicates refused instead of answered)",
        SESSION,
        "return (answer[1], answer[2]) if answer else None",
        "return None",
    ),
    Piece(
        "a command that is on its way is called not applied",
        "Jepsen of RedisRaft and jetcd (failed writes that take effect)",
        COMMANDS,
        "return self.copies == 0 and self.results is None",
        "return self.results is None",
    ),
    Piece(
        "a command without an answer is called not applied",
        "Atomix (its Jepsen suite takes every exception for a failure)",
        COMMANDS,
        "batch.fail(unsent if batch.is_clean else sent)",
        "batch.fail(unsent)",
        faults=("lost client",),
    ),
    Piece(
        "a command whose time is over is called not applied",
        "Jepsen of RedisRaft (a time-out told as a failure)",
        COMMANDS,
        "if batch.first_sequence\n                else not_applied()",
        "if batch.first_sequence < 0\n                else not_applied()",
    ),
    Piece(
        "each server ends sessions by its own clock",
        "Copycat #263 (time-outs of each server's own options)",
        APPLIER,
        "kind, now_us = batch.kind, batch.log_time_us\n",
        "kind = batch.kind\n"
        "        now_us = round(self.environment.clock.monotonic_s() * 1_000_000)\n",
    ),
    Piece(
        "a write with a version does not look at the version",
        "Hazelcast 3.8.3 (Jepsen 2017: lost compare-and-set)",
        MAP,
        "entry is not None and version in (None, entry[0])",
        "entry is not None",
    ),
]

EVENTS = [
    Piece(
        "the last events are lost when nothing follows them",
        "Copycat #108 (sent again only after an acknowledgement of something new)",
        APPLIER,
        "KeepAliveReply(batch.session, batch.first_sequence, attachment.sent)",
        "KeepAliveReply(batch.session, batch.first_sequence, 0)",
        faults=("network",),
    ),
    Piece(
        "events that were lost are not sent again",
        "Copycat cd7c6397, #108",
        DELIVERY,
        "at.sent = message.event_sequence",
        "at.sent = at.sent",
        faults=("network",),
    ),
    Piece(
        "an event that comes twice is heard twice",
        "Copycat #235; etcd #15271 (a watch goes back in time)",
        EVENT_ORDER,
        "seen = self.sequence + 1 - events.first_sequence",
        "seen = min(0, self.sequence + 1 - events.first_sequence)",
    ),
    Piece(
        "a gap in the events is not noticed",
        "Copycat 79962b02 (the chain of previous indexes)",
        EVENT_ORDER,
        "seen = self.sequence + 1 - events.first_sequence",
        "seen = max(0, self.sequence + 1 - events.first_sequence)",
        faults=("network",),
    ),
    Piece(
        "the chain of events is off by one",
        "Copycat 79962b02, #200",
        SESSION,
        "Events(self.session, first_sequence, index, contents)",
        "Events(self.session, first_sequence + 1, index, contents)",
    ),
    Piece(
        "events are forgotten before the client has them",
        "Copycat #25, #31 (compacted before they were received)",
        SESSION,
        "queue[0][1] <= event_sequence",
        "queue[0][1]",
    ),
]

LOCKS = [
    Piece(
        "a client counts its session from the answer, not from the question",
        "Copycat (leases that are not measured from when they were asked for)",
        CONTACT,
        "self.made(sent_s, now_s)",
        "self.made(now_s, now_s)",
        faults=("lost client",),
    ),
    Piece(
        "a late release frees the lock of the next holder",
        "Atomix (unlock does not look at session and version)",
        LOCK,
        "holder is None or holder[0] != commit.session or holder[2] != token",
        "holder is None",
    ),
    Piece(
        "who came last is served first",
        "Atomix (the queue of a lock after a change of leader)",
        LOCK,
        "ticket = next(iter(self._queue))",
        "ticket = next(reversed(self._queue))",
    ),
    Piece(
        "a client that is cut off believes in its lock",
        "Atomix #94 (held while suspended)",
        LOCK,
        'if state in ("suspended", "lost", "closed"):',
        'if state in ("lost", "closed"):',
        faults=("partition",),
    ),
    Piece(
        "the lock goes to a session that has ended",
        "etcd #11456; Atomix #228",
        LOCK,
        "list(self._tickets.get(session, {}).values())",
        "list({}.values())",
        faults=("client crash", "client pause"),
    ),
    Piece(
        "the lock of a session that has ended is kept for ever",
        "Atomix #228, #232",
        LOCK,
        "if self._holder is not None and self._holder[0] == session:",
        "if self._holder is None:",
    ),
    Piece(
        "tokens are different and do not grow",
        "Redlock (a random value is no fencing token)",
        LOCK,
        "max(commit.index, self._last_token + 1)",
        "session",
    ),
    Piece(
        "a lock that is granted too late is kept by nobody",
        "Atomix 11c2fb8ec, e621b76d2 (granted after the client gave up)",
        LOCK,
        'client.state != "connected":\n                self._withdraw(request)\n',
        'client.state != "connected":\n',
    ),
]

TIME = [
    Piece(
        "timers run by each server's own clock",
        "Copycat (TTL by the local clock); PySyncObj (lock expiry by the caller's clock)",
        RESOURCE,
        "log_time_s = message.log_time_us / 1_000_000",
        "log_time_s = self.environment.clock.wall_time_s()",
    ),
    Piece(
        "the time of the log is the leader's wall clock",
        "Atomix b94bf1605, c3abbfe37 (time goes back after a change of leader)",
        LEADER,
        "log_time_us=self._log_clock.now_us()",
        "log_time_us=round(self.environment.clock.wall_time_s() * 1_000_000)",
    ),
]

DETERMINISM = [
    Piece(
        "state depends on where objects lie in memory",
        "etcd #14571 (replicas that evaluate the same entry differently)",
        MAP,
        "entry[0], entry[1] = commit.index, value",
        "entry[0], entry[1] = id(entry), value",
    ),
    Piece(
        "an event is published and its operation fails on one server only",
        "Copycat (events of a command that throws, by server)",
        RESOURCE,
        "value = declared.call(machine, commit, *operation[2:])",
        "value = declared.call(machine, commit, *operation[2:], *[0][id(commit) // 16 % 999 :])",
    ),
    Piece(
        "servers are asked in the order of a set",
        "Python (the order of a set of strings differs by process)",
        SERVER,
        "for name, endpoint in options.peers.items()\n            if name != options.name",
        "for name, endpoint in set(options.peers.items())\n            if name != options.name",
        differs=True,
    ),
    Piece(
        "chance comes from the process, not from the seed",
        "madsim, FoundationDB (a simulator that leaks)",
        SERVER,
        "return self.environment.random.uniform(",
        'return __import__("random").uniform(',
        differs=True,
    ),
]
