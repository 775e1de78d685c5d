"""What is on the disk in which order, rule by rule: chapter 3.8 of the dissertation."""

import pytest

from copycat.actors.simulated_disk import SimulatedDisk
from copycat.actors.simulation import Simulation
from copycat.protocol.raft import AppendEntriesReply
from copycat.storage.ballot import Ballot
from copycat.storage.log import Log
from lone_server import ROUND_S, LoneServer, append


@pytest.mark.parametrize("chance", range(30))
def test_no_record_of_a_term_is_written_before_its_ballot_is_durable(chance: int) -> None:
    """§3.8: a new leader's first records come while the ballot of its term is on its way to the disk; a
    crash that keeps any pages leaves a ballot of that term, or none of its records."""
    with Simulation(chance) as simulation:
        lone = LoneServer(simulation)
        lone.replicate("n2", append(3, 3))
        lone.disk.latency_factor = 10.0
        lone.voices["n3"].send(lone.server.address, append(4, 4, prev=(1, 3), leader=3))
        lone.pass_time(simulation.random.random() * 2 * ROUND_S)
        image = crashed(lone)
        assert Ballot(image).term >= Log(image, segment_bytes=64 << 10).last_term


def crashed(lone: LoneServer) -> SimulatedDisk:
    """What a loss of power leaves of the server's disk, with every page that was written."""
    lone.disk.detach()
    lone.disk.crash(kept=1.0)
    return lone.disk


def test_what_came_before_the_ballot_is_taken_over_in_its_order() -> None:
    """§3.8: several requests that come while the ballot is written are answered after it, one by one."""
    with Simulation(1) as simulation:
        lone = LoneServer(simulation)
        with lone.disk_held():
            for prev in range(3):
                lone.say("n2", append(5, 5, prev=(prev, 5 if prev else 0)))
            assert lone.log == []
            assert not lone.heard("n2", AppendEntriesReply)
        assert lone.log == [5, 5, 5]
        assert [reply.match_index for reply in lone.heard("n2", AppendEntriesReply)] == [1, 2, 3]
