"""Bugs of elections, ballots, logs, disks and commitment."""

from piece import Piece

AMNESIA = "copycat/storage/amnesia.py"
BALLOT = "copycat/storage/ballot.py"
BATCH = "copycat/storage/batch.py"
CANDIDATE = "copycat/server/roles/candidate.py"
FOLLOWER = "copycat/server/roles/follower.py"
INTRODUCTIONS = "copycat/server/introductions.py"
LEADER = "copycat/server/roles/leader.py"
LOG = "copycat/storage/log.py"
MEMBERSHIP = "copycat/server/membership.py"
RECOVERY = "copycat/storage/recovery.py"
REPLICATOR = "copycat/server/replicator.py"
ROLE = "copycat/server/roles/role.py"
SEGMENT = "copycat/storage/segment.py"
SYNCS = "copycat/storage/syncs.py"
SERVER = "copycat/server/server.py"
SMALL_FILE = "copycat/storage/small_file.py"

ELECTIONS = [
    Piece(
        "a new term is not written down",
        "PySyncObj (term kept in memory only)",
        BALLOT,
        "self.voted_for = 0\n        self.written += 1",
        "self.voted_for = 0",
    ),
    Piece(
        "the disk is not told whom a server voted for",
        "PySyncObj (vote kept in memory only); Copycat #321",
        BALLOT,
        "_CONTENT.pack(self.term, self.voted_for)",
        "_CONTENT.pack(self.term, 0)",
    ),
    Piece(
        "a vote leaves before it is durable",
        "PySyncObj (answers a vote request without any storage)",
        ROLE,
        "RequestVoteReply(server.ballot.term, server.identity.server_id, granted)\n"
        "        server.outbox.send(self, sender, reply)",
        "RequestVoteReply(server.ballot.term, server.identity.server_id, granted)\n"
        "        self.send(sender, reply)",
    ),
    Piece(
        "what changes while the ballot is being written counts as written",
        "ZooKeeper ZOOKEEPER-4643 (one atomic step of the protocol done as two)",
        SMALL_FILE,
        "self.durable = self._replacing",
        "self.durable = self.written",
    ),
    Piece(
        "who hears of the leader forgets its vote of the same term",
        "Copycat (setLeader clears the vote)",
        SERVER,
        "        self._leader_heard_s = self.now_s()\n        name =",
        "        self._leader_heard_s, self.ballot.voted_for = self.now_s(), 0\n        name =",
    ),
    Piece(
        "a voter gives a second vote in one term",
        "Copycat #123 (votes of overlapping elections)",
        FOLLOWER,
        "and ballot.voted_for in (0, message.candidate)",
        "and message.candidate",
    ),
    Piece(
        "a vote that arrives twice counts twice",
        "Copycat #123 (late votes of a former election counted)",
        CANDIDATE,
        "self._votes.add(voter)",
        "self._votes.add(len(self._votes))",
    ),
    Piece(
        "a longer log beats one of a later term",
        "Copycat b0595b8e (a log's last term misread in elections)",
        SERVER,
        "(last_term, last_index) >= (self.log.last_term, self.log.last_index)",
        "last_index >= self.log.last_index",
        faults=("crash leader", "isolate leader", "partition"),
    ),
    Piece(
        "every server is told that it has won with one vote too few",
        "CCF (quorum of a joint configuration counted over the union)",
        CANDIDATE,
        "len(self._votes) >= self.server.options.majority",
        "len(self._votes) >= self.server.options.majority - 1",
    ),
]

REPLICATION = [
    Piece(
        "a follower does not look at the term of what comes before",
        "Copycat (passive members append without comparing the term before)",
        FOLLOWER,
        "message.prev_index > log.last_index\n"
        "            or log.term_at(message.prev_index) != message.prev_term",
        "message.prev_index > log.last_index",
    ),
    Piece(
        "a request of an earlier term is taken for the leader's",
        "ZooKeeper ZOOKEEPER-4712 (threads of an earlier era still write); Copycat (election timer"
        " reset by a deposed leader)",
        FOLLOWER,
        "if message.term < server.ballot.term:",
        "if message.term < 0:",
        faults=("isolate leader", "partition"),
    ),
    Piece(
        "a shorter request that comes late cuts the log",
        "CCF (an early request truncates what is committed); PySyncObj; Copycat",
        FOLLOWER,
        "if log.term_at(batch.base_index) == batch.term:",
        "if log.last_index == batch.last_index:",
    ),
    Piece(
        "a follower acknowledges all that it has, verified or not",
        "CCF (the answer claims more than the request covered)",
        FOLLOWER,
        "message.term, True, match_index,",
        "message.term, True, log.last_index,",
    ),
    Piece(
        "a refusal moves the match index",
        "CCF (commitment advances on a refusal)",
        REPLICATOR,
        "if message.accepted:",
        "if message.accepted or message.match_index:",
    ),
    Piece(
        "an answer that was overtaken moves the match index back",
        "PySyncObj #167",
        REPLICATOR,
        "if match_index > following.match_index:",
        "if match_index != following.match_index:",
    ),
    Piece(
        "an answer of a later term confirms the leader of an earlier one",
        "CCF (a refusal handled like an answer); Copycat #283",
        REPLICATOR,
        "if message.term > self._term:",
        "if message.term > self._term + 1_000_000:",
        faults=("isolate leader", "one way", "pause"),
        rare=True,
    ),
    Piece(
        "what was sent counts as received",
        "PySyncObj c80901d (the match index was wrong)",
        REPLICATOR,
        "self._accepted(message.request, message.match_index)",
        "self._accepted(message.request, self._next_index - 1)",
    ),
]

COMMITMENT = [
    Piece(
        "copies of an earlier term's entries are counted (figure 8)",
        "CCF (commitment advances for a previous term); Raft §5.4.2",
        LEADER,
        "index <= server.commit_index or server.log.term_at(index) != self._term",
        "index <= server.commit_index",
        faults=("crash leader", "crash all", "partition"),
    ),
    Piece(
        "a follower commits up to what the leader says, verified or not",
        "Copycat #266, #269",
        FOLLOWER,
        "min(message.commit_index, match_index)",
        "min(message.commit_index, log.last_index)",
    ),
    Piece(
        "the commit index goes back when a leader knows less",
        "PySyncObj #166; Copycat 2e949eec",
        SERVER,
        "if index > self.commit_index:",
        "if index != self.commit_index:",
    ),
    Piece(
        "an entry is committed with one copy too few",
        "Copycat f4cca496 (copies counted wrongly)",
        LEADER,
        "matches[-server.options.majority]",
        "matches[1 - server.options.majority]",
    ),
    Piece(
        "the leader counts its own log before it is durable",
        "etcd #14370 (answers before its own sync)",
        LEADER,
        "+ [server.log.synced_index]",
        "+ [server.log.last_index]",
    ),
    Piece(
        "a follower acknowledges before it has synced",
        "ZooKeeper ZOOKEEPER-4646; Copycat #220",
        FOLLOWER,
        "message.round, server.serves_clients\n        )\n"
        "        server.outbox.send(self, sender, reply)",
        "message.round, server.serves_clients\n        )\n        self.send(sender, reply)",
    ),
]

DISKS = [
    Piece(
        "a sync that fails is passed over",
        "PostgreSQL (fsyncgate, 2018)",
        SYNCS,
        'if done.error is not None:\n            raise DiskFailedError("sync the log", done.error)',
        "if done.error == self:\n            raise DiskFailedError",
    ),
    Piece(
        "after a failed sync the next start syncs what counts as clean",
        "PostgreSQL (fsyncgate: the second sync succeeds)",
        SEGMENT,
        "self.file().write(offset, content)",
        "self.file()",
    ),
    Piece(
        "what is written during a sync counts as synced",
        "etcd 3.5 (an index saved while its entry is under way)",
        SYNCS,
        "self.durable = sync.written\n            self.synced_index = sync.index",
        "self.durable = self.written\n            self.synced_index = self._index.last_index",
    ),
    Piece(
        "what was cut is durable still",
        "etcd/raft (asynchronous storage writes, ABA)",
        SYNCS,
        "self.synced_index = min(self.synced_index, last_index)",
        "self.synced_index += 0",
    ),
    Piece(
        "what a start finds in the cache of the system counts as durable",
        "PostgreSQL (fsyncgate: the page cache is not the disk)",
        LOG,
        "found.floor, found.durable_index,",
        "found.floor, found.index.last_index,",
        faults=("crash", "kill", "slow disk"),
        rare=True,
        # Nor is it written again.
        also=(
            (
                LOG,
                "self._recovered_unsynced(found.durable_index)",
                "self._recovered_unsynced(found.index.last_index)",
            ),
        ),
    ),
    Piece(
        "what was cut is back after a restart",
        "ZooKeeper ZOOKEEPER-1154 (no TRUNC on rejoin)",
        RECOVERY,
        "overruled_from is not None and batch.last_index >= overruled_from",
        "overruled_from is not None and batch.last_index > overruled_from",
    ),
    Piece(
        "the cache answers with what was cut",
        "Copycat #29, #141 (a look-up returns another record: inconsistent index)",
        LOG,
        "        self._drop_from_cache(last_index)\n",
        "",
    ),
]

DAMAGE = [
    Piece(
        "what is damaged counts as torn, and is cut off",
        "LogCabin, ZooKeeper (FAST 2018: a bad record drops what was committed after it)",
        RECOVERY,
        "if durable_index <= found.index.last_index:",
        "if durable_index >= 0:",
        faults=("flip", "misdirected write"),
    ),
    Piece(
        "a record is not compared with its checksum",
        "ZooKeeper, Kafka, Redis (FAST 2017: one damaged block of one server spreads)",
        BATCH,
        "if not is_whole and crc32(memoryview(record)[4:]) != crc:",
        "if not is_whole and crc32(memoryview(record)[4:]) < 0:",
        faults=("flip", "misdirected write"),
    ),
    Piece(
        "a damaged ballot is replaced by a fresh one",
        "PySyncObj (an error while the meta file is read is passed over)",
        SMALL_FILE,
        'raise self.CORRUPT(self.NAME, "its magic or CRC does not match")',
        "return None",
        faults=("flip", "misdirected write"),
        # The other files would say that there was another ballot.
        also=(
            (AMNESIA, "for file in (ballot, lives):", "for file in (lives,):"),
            (AMNESIA, "if ballot.term < last_term:", "if ballot.term < 0:"),
            (
                AMNESIA,
                "ballot.term < term or (ballot.term == term and voted_for not in (0, ballot.voted_for))",
                "ballot.term < 0 < voted_for",
            ),
        ),
    ),
    Piece(
        "a server that was wiped comes back under its name",
        "RethinkDB 2.1.5 (Jepsen 2016: amnesia under the same identity); Copycat's Jepsen suite",
        # The name is the identity, and what another life had promised is asked of nobody.
        MEMBERSHIP,
        "self.identity.establish(options.name, server.environment.random.getrandbits(64) or 1)",
        "self.identity.establish(options.name, int.from_bytes(options.name.encode()))",
        also=(
            (INTRODUCTIONS, "if met and met not in lives:", "if met and not lives:"),
            (
                INTRODUCTIONS,
                "if message.met and message.met not in self.lives.own:",
                "if message.met and not self.lives.own:",
            ),
        ),
    ),
]
