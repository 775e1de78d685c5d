"""What a server keeps on its disk: the log, the ballot, who it is and who the others are.

Plain synchronous objects, owned by the ``Server`` actor. They know nothing of Raft, sessions or
commands, never wait, and reach the disk only through ``copycat.actors.environment.Disk``.

Each of them keeps two numbers: ``written`` counts its changes and ``durable`` is the highest count
that is known to survive a crash. Whoever must not speak before a change is durable remembers
``written`` and waits until ``durable`` has reached it. What was found on the disk at a start counts
as one change: after the death of a process alone its last writes are visible but not yet durable.

Tokens of disk operations: 1 the ballot, 2 the identity, 3 the configuration, 4 the floor, 5
the lives, from 1,000 the log.
"""
