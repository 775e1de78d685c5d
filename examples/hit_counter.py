"""A counter that loses no hit and counts none twice, though its leader is killed meanwhile."""

import copycat
from copycat.resources import DistributedCounter

HITS = 200


def main() -> None:
    """Count, kill the leader half-way, count on."""
    with copycat.local(nodes=3) as cluster:
        hits = cluster.client().open(DistributedCounter, "hits")
        for number in range(HITS):
            if number == HITS // 2:
                print("killed", cluster.kill_leader())
            hits.increment()
        print(hits.value())
        assert hits.value() == HITS


if __name__ == "__main__":
    main()
