"""Tokens: the characters of RFC 9110, section 5.6.2, and no others."""

from __future__ import annotations

import string

from websockets_routes.tokens import TOKEN


def test_a_token_has_the_characters_of_one() -> None:
    allowed = set("!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters)
    found = {chr(code) for code in range(0x300) if TOKEN.fullmatch(chr(code))}
    assert found == allowed
    assert not TOKEN.fullmatch("")
    assert not TOKEN.fullmatch("a\n")
