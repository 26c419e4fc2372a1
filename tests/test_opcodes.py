"""OpCode: the opcodes of the protocol, and OPEN."""

from __future__ import annotations

import pytest
from websockets import Opcode

from websockets_routes import OpCode


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONTINUATION", 0),
        ("TEXT", 1),
        ("BINARY", 2),
        ("CLOSE", 8),
        ("PING", 9),
        ("PONG", 10),
        ("OPEN", 255),
    ],
)
def test_an_opcode_has_its_value(name: str, value: int) -> None:
    assert OpCode[name] == value
    assert OpCode(value) is OpCode[name]


def test_there_are_no_others() -> None:
    assert len(OpCode) == 7


@pytest.mark.parametrize("opcode", Opcode, ids=lambda opcode: opcode.name)
def test_it_equals_the_opcode_of_websockets(opcode: Opcode) -> None:
    assert int(OpCode(opcode)) == opcode
    assert {opcode: "same key"}[OpCode(opcode)] == "same key"  # type: ignore[index]


def test_open_is_no_opcode_of_websockets() -> None:
    assert OpCode.OPEN not in [int(opcode) for opcode in Opcode]
