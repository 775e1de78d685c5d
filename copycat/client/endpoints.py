"""Endpoints: where a client looks for servers, as its user names them."""

import os

from copycat.actors.endpoint import EndpointError, parse_endpoint
from copycat.errors import InvalidArgument

ENDPOINTS_VARIABLE = "COPYCAT_ENDPOINTS"


def checked_endpoints(endpoints: tuple[str, ...]) -> tuple[str, ...]:
    """These endpoints, or the default ones if there are none; each once.

    Raises:
        InvalidArgument: one is no ``host:port``, or there are no default ones.
    """
    for endpoint in endpoints:
        if not isinstance(endpoint, str):
            raise InvalidArgument(
                f"an endpoint is a str, host:port, and each an argument of its own; not {endpoint!r:.60}"
            )
    endpoints = tuple(dict.fromkeys(endpoints or default_endpoints()))
    if not endpoints:
        raise InvalidArgument(
            "no endpoint was given: name servers as host:port, or set"
            f" {ENDPOINTS_VARIABLE} to some, separated by commas"
        )
    for endpoint in endpoints:
        try:
            parse_endpoint(endpoint)
        except EndpointError as error:
            raise InvalidArgument(str(error)) from None
    return endpoints


def default_endpoints() -> tuple[str, ...]:
    """The endpoints that the environment variable ``COPYCAT_ENDPOINTS`` names; perhaps none."""
    value = os.environ.get(ENDPOINTS_VARIABLE, "")
    return tuple(endpoint.strip() for endpoint in value.split(",") if endpoint.strip())
