"""Amnesia: what a disk cannot look like unless something on it was removed, or put back as it was.

The files of a server vouch for each other. The identity is written last, when the others exist, so
one of them alone is no server that starts for the first time. A term is in the log only when a ballot
of that term, or a later one, was durable before; and the floor says what the ballot was at least. The
floor itself is written at every start before the life is, which says how often it had been written.
"""

from copycat.storage.ballot import Ballot
from copycat.storage.errors import AmnesiaError
from copycat.storage.floor import Floor
from copycat.storage.identity import ClusterConfiguration, ServerIdentity
from copycat.storage.lives import Lives
from copycat.storage.small_file import SmallFile
from copycat.types import Term


def refuse_amnesia(
    identity: ServerIdentity,
    configuration: ClusterConfiguration,
    ballot: Ballot,
    floor: Floor,
    lives: Lives,
    last_term: Term,
) -> None:
    """Raise if what was loaded from one disk is not all that was there.

    Args:
        identity, configuration, ballot, floor, lives: as they were loaded.
        last_term: of the log.

    Raises:
        AmnesiaError: a file is missing, or older than another one.
    """
    if not identity.server_id and (
        floor.promise.segment or ballot.term or configuration.cluster_id
    ):
        raise AmnesiaError(identity.NAME, "is missing, but this server has been a member")
    if not floor.exists and (identity.server_id or lives.written):
        first = identity.NAME if identity.server_id else lives.NAME
        raise AmnesiaError(floor.NAME, f"is missing, but it was there before the {first}")
    if identity.server_id:
        for file in (ballot, lives):
            _refuse_missing(file, "it was there before the identity")
    if floor.sequence < lives.floor_sequence:
        raise AmnesiaError(
            floor.NAME, f"is that of an earlier start than the last one in file {lives.NAME}"
        )
    if ballot.term:
        _refuse_missing(configuration, f"this server was a member in term {ballot.term}")
    if ballot.term < last_term:
        raise AmnesiaError(
            ballot.NAME, f"says term {ballot.term}, but the log has a record of term {last_term}"
        )
    term, voted_for = floor.promise.term, floor.promise.voted_for
    if ballot.term < term or (ballot.term == term and voted_for not in (0, ballot.voted_for)):
        raise AmnesiaError(ballot.NAME, f"is older than what file floor says of term {term}")


def _refuse_missing(file: SmallFile, reason: str) -> None:
    if not file.written:
        raise AmnesiaError(file.NAME, f"is missing, but {reason}")
