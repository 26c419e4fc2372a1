"""Tokens: the words that HTTP is made of."""

from __future__ import annotations

import re

__all__ = ["TOKEN"]

#: A method, a name of a header, a cookie or a subprotocol (RFC 9110 section 5.6.2).
TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
