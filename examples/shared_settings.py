"""Settings that many programs share: read them, change them safely, follow their changes."""

import threading

import copycat
from copycat.resources import DistributedMap, Put, Resync


def add_origin(settings: DistributedMap[str, list[str]], origin: str) -> None:
    """Add to a list that others change too: write only what has not changed since it was read."""
    while True:
        entry = settings.get_entry("origins")
        if entry is None:
            if settings.put_if_absent("origins", [origin]) is None:
                return
        elif settings.replace("origins", [*entry.value, origin], version=entry.version):
            return


def follow(settings: DistributedMap[str, list[str]], ready: threading.Event) -> None:
    """Print every change until there are three origins."""
    with settings.watch() as events:
        ready.set()
        for event in events:
            match event:
                case Put(key, value, version):
                    print(f"{key} = {value} since {version}")
                    if len(value) == 3:
                        return
                case Resync():
                    print("something was missed; now:", settings.to_dict())


def main() -> None:
    """Three threads, each a program of its own in real life, add an origin each."""
    with copycat.local(nodes=3) as cluster:
        settings = cluster.client().open(DistributedMap[str, list[str]], "settings")
        ready = threading.Event()
        follower = threading.Thread(target=follow, args=(settings, ready))
        follower.start()
        ready.wait()
        adders = [
            threading.Thread(target=add_origin, args=(settings, f"https://{name}.example"))
            for name in ("a", "b", "c")
        ]
        for adder in adders:
            adder.start()
        for thread in [*adders, follower]:
            thread.join()
        print(settings.to_dict())


if __name__ == "__main__":
    main()
