"""A job that one program at a time may run, with a store that refuses whoever comes too late."""

import threading
from dataclasses import dataclass, field

import copycat
from copycat.errors import LockTimeout
from copycat.resources import DistributedLock


@dataclass
class Store:
    """Something outside of the cluster that the lock protects. It has to know the tokens."""

    largest_token: int = 0
    reports: list[str] = field(default_factory=list)

    def write(self, report: str, token: int) -> None:
        """Refuse a writer whose lock has meanwhile been given to another one."""
        if token < self.largest_token:
            raise PermissionError(f"token {token} is older than {self.largest_token}")
        self.largest_token = token
        self.reports.append(report)


def job(name: str, lock: DistributedLock, store: Store) -> None:
    """Write two reports while holding the lock."""
    try:
        with lock.acquire(timeout_s=10) as grant:
            for part in (1, 2):
                grant.check()  # between the steps: is it still ours, as far as we know?
                store.write(f"{name}, part {part}", grant.token)
    except LockTimeout:
        print(name, "leaves it to the others")


def main() -> None:
    """Three programs want to run the job at once; here they are threads with their own clients."""
    store = Store()
    with copycat.local(nodes=3) as cluster:
        jobs = []
        for name in ("first", "second", "third"):
            lock = cluster.client().open(DistributedLock, "nightly")
            jobs.append(threading.Thread(target=job, args=(name, lock, store)))
        for each in jobs:
            each.start()
        for each in jobs:
            each.join()
    print(*store.reports, sep="\n")
    for early, late in zip(store.reports[::2], store.reports[1::2], strict=True):
        assert early.partition(",")[0] == late.partition(",")[0], "nobody came between"


if __name__ == "__main__":
    main()
