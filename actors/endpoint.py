"""Endpoints: the ``host:port`` at which nodes are dialled."""

PORT_MAX = 65535


class EndpointError(ValueError):
    """A text that is no ``host:port``. Nothing was dialled or opened."""


def parse_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of ``"host:port"``; an IPv6 address stands in brackets.

    Raises:
        EndpointError: it is not of this form.
    """
    host, colon, port = endpoint.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= PORT_MAX):
        raise EndpointError(f"{endpoint!r:.300} is no endpoint: write host:port or [::1]:port")
    return host, int(port)
