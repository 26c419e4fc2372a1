"""TLS: the certificate that a client is shown, by the name that it asks for."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from websockets_routes import CertificateError, Router, TemplateError
from websockets_routes.tls import ServerNames, server_names

from .integration.servers import HOST, connecting, port, serving

PASSWORD = "correct horse"


class Certificates:
    """Files of certificates that were made for these tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.client = ssl.create_default_context()
        self.ca.configure_trust(self.client)

    def pair(self, name: str, password: str | None = None) -> tuple[Path, Path]:
        made = self.ca.issue_cert(name)
        label = name.replace("*", "any")
        certificate = self.folder / f"{label}.pem"
        key = self.folder / f"{label}.key"
        certificate.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        key_bytes = made.private_key_pem.bytes()
        if password is not None:
            key_bytes = load_pem_private_key(key_bytes, None).private_bytes(
                Encoding.PEM,
                PrivateFormat.PKCS8,
                BestAvailableEncryption(password.encode()),
            )
        key.write_bytes(key_bytes)
        return certificate, key

    def both_in_one(self, name: str) -> Path:
        certificate, key = self.pair(name)
        both = self.folder / f"{name}.both"
        both.write_bytes(certificate.read_bytes() + key.read_bytes())
        return both


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def router() -> Router:
    made = Router()

    @made.route("/")
    async def hello(ws: Any) -> None:
        await ws.send("hello")
        await ws.wait_closed()

    return made


@asynccontextmanager
async def serving_tls(context: ssl.SSLContext) -> AsyncIterator[int]:
    server = router().serve(HOST, 0, ssl=context)
    async with serving(server):
        yield port(server)


async def shown(made: Certificates, number: int, name: str | None) -> str:
    """Connect with a server name; return the name of the certificate shown."""
    client = made.client
    if name is None:
        client = ssl.create_default_context()
        client.check_hostname = False
        made.ca.configure_trust(client)
    host = HOST if name is None else name
    # Of the literal address, no name is asked for.
    uri = f"wss://{host}:{number}/"
    connection = connecting(uri, host=HOST, ssl=client, server_hostname=host)
    async with connection as ws:
        assert await ws.recv() == "hello"
        certificate = ws.transport.get_extra_info("peercert")
        ((_, found),) = certificate["subjectAltName"]
        return str(found)


async def refused(made: Certificates, number: int, name: str | None) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)) as raised:
        await shown(made, number, name)
    assert not isinstance(raised.value, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("default", [False, True], ids=["none", "default"])
async def test_a_client_is_shown_the_most_specific_certificate(
    made: Certificates, default: bool
) -> None:
    context = server_names(
        {
            "*.example.com": made.pair("*.example.com"),
            "API.example.com": made.pair("api.example.com"),
            "both.example.org": made.both_in_one("both.example.org"),
            "locked.example.org": (
                *made.pair("locked.example.org", PASSWORD),
                PASSWORD,
            ),
        },
        default=made.pair("default.example.net") if default else None,
    )
    async with serving_tls(context) as number:
        assert await shown(made, number, "api.example.com") == "api.example.com"
        assert await shown(made, number, "www.example.com") == "*.example.com"
        assert await shown(made, number, "both.example.org") == "both.example.org"
        assert await shown(made, number, "locked.example.org") == "locked.example.org"
        if default:
            found = await shown(made, number, "default.example.net")
            assert found == "default.example.net"
            assert await shown(made, number, None) == "default.example.net"
            for name in ("example.com", "a.b.example.com"):
                with pytest.raises(ssl.SSLCertVerificationError):
                    await shown(made, number, name)
        else:
            for unknown in ("example.com", "a.b.example.com", "other.org", None):
                await refused(made, number, unknown)
        assert await shown(made, number, "api.example.com") == "api.example.com"


async def test_names_are_added_and_removed_while_the_server_runs(
    made: Certificates,
) -> None:
    context = server_names({})
    async with serving_tls(context) as number:
        await refused(made, number, "late.example.com")
        context.add_name("late.example.com", made.pair("late.example.com"))
        assert await shown(made, number, "late.example.com") == "late.example.com"
        uri = f"wss://late.example.com:{number}/"
        async with connecting(uri, host=HOST, ssl=made.client) as open_one:
            assert await open_one.recv() == "hello"
            assert context.remove_name("LATE.example.com.")
            await refused(made, number, "late.example.com")
            await (await open_one.ping())
        assert not context.remove_name("late.example.com")


async def test_a_certificate_can_be_replaced_but_not_by_one_that_cannot_be_used(
    made: Certificates,
) -> None:
    context = server_names({"www.example.com": made.pair("*.example.com")})
    async with serving_tls(context) as number:
        assert await shown(made, number, "www.example.com") == "*.example.com"
        context.add_name("www.example.com", made.pair("www.example.com"))
        assert await shown(made, number, "www.example.com") == "www.example.com"
        with pytest.raises(CertificateError):
            context.add_name("www.example.com", made.folder / "missing.pem")
        assert await shown(made, number, "www.example.com") == "www.example.com"


@pytest.mark.parametrize(
    "password",
    [PASSWORD, PASSWORD.encode(), lambda: PASSWORD],
    ids=["str", "bytes", "function"],
)
def test_a_key_may_have_a_password_of_any_kind(
    made: Certificates, password: Any
) -> None:
    pair = made.pair("locked.example.com", PASSWORD)
    assert isinstance(server_names({"a.com": (*pair, password)}), ServerNames)


def missing(made: Certificates) -> Any:
    return made.folder / "missing.pem", made.pair("x.com")[1]


def missing_key(made: Certificates) -> Any:
    return made.pair("x.com")[0], made.folder / "missing.key"


def missing_both(made: Certificates) -> Any:
    return str(made.folder / "missing.pem")


def other_key(made: Certificates) -> Any:
    return made.pair("x.com")[0], made.pair("y.com")[1]


def no_key(made: Certificates) -> Any:
    return made.pair("x.com")[0]


def no_key_in_pair(made: Certificates) -> Any:
    return made.pair("x.com")[0], None


def no_password(made: Certificates) -> Any:
    return made.pair("x.com", PASSWORD)


def wrong_password(made: Certificates) -> Any:
    return *made.pair("x.com", PASSWORD), "wrong"


def long_password(made: Certificates) -> Any:
    return *made.pair("x.com", PASSWORD), "x" * 2000


def no_certificate(made: Certificates) -> Any:
    (made.folder / "text.pem").write_text("nothing")
    return made.folder / "text.pem"


def a_folder(made: Certificates) -> Any:
    return made.folder


@pytest.mark.parametrize(
    "make",
    [
        missing,
        missing_key,
        missing_both,
        other_key,
        no_key,
        no_key_in_pair,
        no_password,
        wrong_password,
        long_password,
        no_certificate,
        a_folder,
    ],
)
@pytest.mark.parametrize("how", ["name", "default", "added"])
def test_what_cannot_be_used_raises_naming_it(
    made: Certificates, make: Any, how: str
) -> None:
    certificate = make(made)
    files = certificate if isinstance(certificate, tuple) else (certificate,)
    load: dict[str, Callable[[], object]] = {
        "name": lambda: server_names({"www.x.com": certificate}),
        "default": lambda: server_names({}, default=certificate),
        "added": lambda: server_names({}).add_name("www.x.com", certificate),
    }
    with pytest.raises(CertificateError) as raised:
        load[how]()
    error = raised.value
    assert error.name == ("default" if how == "default" else "www.x.com")
    assert error.name in str(error)
    assert str(files[0]) in str(error)


@pytest.mark.parametrize("name", ["", "a b", "www.x.com:443", "*x.com"])
def test_a_name_that_is_none_raises(made: Certificates, name: str) -> None:
    pair = made.pair("x.com")
    with pytest.raises(TemplateError):
        server_names({name: pair})
    with pytest.raises(TemplateError):
        server_names({}).remove_name(name)


async def test_a_client_that_goes_away_in_its_handshake_harms_nobody(
    made: Certificates,
) -> None:
    context = server_names({"www.example.com": made.pair("www.example.com")})
    async with serving_tls(context) as number:
        _, writer = await asyncio.open_connection(HOST, number)
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00")
        await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        assert await shown(made, number, "www.example.com") == "www.example.com"


def password_of_none(made: Certificates) -> Any:
    return [*made.pair("x.com", PASSWORD), lambda: None]


def four(made: Certificates) -> Any:
    return (*made.pair("x.com"), PASSWORD, "more")


@pytest.mark.parametrize("make", [password_of_none, four, lambda made: ()])
def test_what_is_no_certificate_raises(made: Certificates, make: Any) -> None:
    with pytest.raises(CertificateError, match=r"www\.x\.com"):
        server_names({"www.x.com": make(made)})


def test_a_certificate_may_be_a_list(made: Certificates) -> None:
    assert isinstance(server_names({"a.com": list(made.pair("a.com"))}), ServerNames)  # type: ignore[dict-item]


def test_whom_to_trust_is_told_to_every_name(made: Certificates) -> None:
    context = server_names({"a.com": made.pair("a.com")})
    made.ca.configure_trust(context)
    context.load_default_certs()
    context.set_default_verify_paths()
    context.add_name("b.com", made.pair("b.com"))
    (_, first), (_, second) = context._names
    for each in (context, first, second):
        assert made.ca.cert_pem.bytes().decode().strip() in {
            ssl.DER_cert_to_PEM_cert(found).strip()
            for found in each.get_ca_certs(binary_form=True)
        }
