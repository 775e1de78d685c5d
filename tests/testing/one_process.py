"""A pool that runs everything in this process, where a test may have planted something."""


class OneProcess:
    """Stands for a ``ProcessPoolExecutor``."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> "OneProcess":
        return self

    def __exit__(self, *_: object) -> None: ...

    map = staticmethod(lambda function, seeds, chunksize: map(function, seeds))
