"""Changes to inputs: small and blind, with a liking for numbers at which readers decide."""

import random

from reader import Reader

INPUT_BYTES_MAX = 16 * 1024
CHANGES_MAX = 4
SPAN_BYTES_MAX = 64
NUMBERS = (0, 1, 2, 7, 23, 24, 31, 32, 127, 128, 255, 256, 511, 512, 513, 65535, 65536)
LARGE_NUMBERS = (2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)


def changed(reader: Reader, data: bytes, other: bytes, chance: random.Random) -> bytes:
    """An input near this one, with something of another one in it perhaps.

    Half of all inputs are changed in one of their parts, so that lengths stay right, and half get
    right checksums again.
    """
    if chance.random() < 0.5:
        data = _bytes_changed(data, other, chance)
    else:
        parts, others = reader.split(data), reader.split(other)
        for _ in range(chance.randint(1, 2)):
            _change_parts(parts, others, chance)
        data = reader.join(parts)
    data = data[:INPUT_BYTES_MAX]
    return reader.seal(data) if chance.random() < 0.5 else data


def _change_parts(parts: list[bytes], others: list[bytes], chance: random.Random) -> None:
    act = chance.random()
    if not parts or act < 0.1:
        if others:
            parts.insert(chance.randint(0, len(parts)), chance.choice(others))
        return
    place = chance.randrange(len(parts))
    if act < 0.2:
        del parts[place]
    elif act < 0.3:
        parts.append(parts.pop(place))
    else:
        other = chance.choice(others) if others else b""
        parts[place] = _bytes_changed(parts[place], other, chance)


def _bytes_changed(data: bytes, other: bytes, chance: random.Random) -> bytes:
    content = bytearray(data)
    for _ in range(chance.randint(1, CHANGES_MAX)):
        at = chance.randint(0, len(content))
        span = min(chance.randint(1, SPAN_BYTES_MAX), 1 + len(content) // 2)
        match chance.randrange(9):
            case 0 if at < len(content):
                content[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(content):
                content[at] = chance.randrange(256)
            case 2 if at < len(content):
                content[at] = (content[at] + chance.choice((-1, 1))) % 256
            case 3:
                del content[at : at + span]
            case 4:
                content[at:at] = chance.randbytes(chance.randint(1, 4))
            case 5:
                content[at : at + span] = bytes(span)
            case 6:
                source = chance.choice((other, data))
                start = chance.randint(0, len(source))
                replaced = chance.choice((0, span))
                content[at : at + replaced] = source[start : start + span]
            case 7:
                del content[at:]
            case _:
                number: bytes = _number(chance)
                content[at : at + chance.choice((0, len(number)))] = number
    return bytes(content)


def _number(chance: random.Random) -> bytes:
    size = chance.choice((1, 2, 4, 8))
    value = chance.choice((*NUMBERS, *LARGE_NUMBERS)) % (1 << 8 * size)
    return value.to_bytes(size, "little" if chance.random() < 0.5 else "big")
