"""How people write durations, addresses and values on a command line, and how we show figures.

Pure functions of text. What cannot be read raises ``ValueError`` with a line for its writer.
"""

import base64
import json
import math
import re
from typing import Any

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DIGITS_MAX = 1000  # far beyond what can be stored, and less than Python refuses to read
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")


def parse_duration(text: str) -> float:
    """Seconds of ``500ms``, ``30s``, ``5m``, ``1m30s``, ``2h`` or ``1d``."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration: write a number and ms, s, m, h or d, as in 30s")
    return sum(float(number) * SECONDS[unit] for number, unit in _PART.findall(text))


def parse_duration_range(text: str) -> tuple[float, float]:
    """Seconds of the shortest and the longest in ``300ms..600ms``."""
    shortest, dots, longest = text.partition("..")
    if not dots:
        raise ValueError(f"{text!r} is no range of durations: write it as in 300ms..600ms")
    return parse_duration(shortest), parse_duration(longest)


def checked_endpoint(text: str) -> str:
    """An endpoint, ``host:port`` or ``[::1]:port``, as it was written."""
    from copycat.actors.endpoint import EndpointError, parse_endpoint  # takes a while to load

    try:
        parse_endpoint(text)
    except EndpointError as error:
        raise ValueError(str(error)) from None
    return text


def parse_peers(text: str) -> dict[str, str]:
    """Endpoints by name, from ``n1=127.0.0.1:7401,n2=127.0.0.1:7402``."""
    peers: dict[str, str] = {}
    for part in text.split(","):
        name, equals, endpoint = part.strip().partition("=")
        if not (name and equals):
            raise ValueError(f"{part!r} is no server: write name=host:port, separated by commas")
        if name in peers:
            raise ValueError(f"the server {name!r} is named twice")
        peers[name] = checked_endpoint(endpoint)
    return peers


def parse_value(text: str) -> Any:
    """A value: what the text means as JSON, or the text itself if it is not JSON.

    So ``7`` is a number, ``"7"`` and ``seven`` are strings, ``{"plan": "pro"}`` is a dict.
    JSON that cannot be kept as it is written, such as ``1e999``, is refused.
    """

    def refuse(word: str) -> Any:
        raise json.JSONDecodeError(f"{word} is not JSON", text, 0)

    try:
        return json.loads(text, parse_constant=refuse, parse_float=_finite, parse_int=_short)
    except json.JSONDecodeError:
        return text
    except RecursionError:
        raise ValueError("lists and dicts are nested too deep") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _short(text: str) -> int:
    if len(text) > DIGITS_MAX:
        raise ValueError(f"{text:.20}... is too large")
    return int(text)


def value_text(value: Any) -> str:
    """A value as JSON on one line. Bytes become ``{"base64": "..."}``; JSON has none."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else value_text(key): _plain(item)
            for key, item in value.items()
        }
    return value


def key_text(key: str | int | bytes) -> str:
    """A key of a map on one line: as it is if it is plain text, else as JSON."""
    return key if isinstance(key, str) and key.isprintable() else value_text(key)


def printable(text: str) -> str:
    """A text of a stranger, made safe for a terminal: one line, no control characters."""
    return "".join(character if character.isprintable() else "?" for character in text)


def count_text(number: int | None) -> str:
    """``1,240``; ``-`` if it is not known."""
    return "-" if number is None else f"{number:,}"


def rate_text(per_s: float | None) -> str:
    """``1,240/s``, with one decimal below ten; ``-/s`` if it is not known."""
    if per_s is None:
        return "-/s"
    return f"{per_s:,.0f}/s" if per_s >= 10 or per_s == 0 else f"{per_s:.1f}/s"


def bytes_text(number: int | None) -> str:
    """``512 B``, ``4.0 KiB``, ``41 MiB``; ``-`` if it is not known."""
    if number is None:
        return "-"
    if number < 1024:
        return f"{number} B"
    amount = float(number)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        amount /= 1024
        if amount < 1023.5 or unit == "TiB":
            break
    return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"


def age_text(age_s: float | None) -> str:
    """``250ms``, ``18s``, ``4m12s``, ``2h10m``, ``3d04h``; ``-`` if it is not known."""
    if age_s is None:
        return "-"
    if age_s < 1:
        return f"{max(0, round(age_s * 1000))}ms"
    seconds = int(age_s)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02}h"
