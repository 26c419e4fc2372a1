"""From a URL to a broker, and what else the errors of brokers say."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest

from websockets_routes import BrokerError, BrokerUnavailable
from websockets_routes.brokers import MemoryBroker, MemoryHub, open_broker


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("memory://", "<MemoryBroker new>"),
        ("redis://u:p@host:1/2", "<RedisBroker redis://host:1/2 new>"),
        ("rediss://host", "<RedisBroker rediss://host new>"),
        ("unix:///run/redis.sock", "<RedisBroker unix:///run/redis.sock new>"),
        ("nats://u:p@a:1,b:2", "<NatsBroker nats://a:1,nats://b:2 new>"),
        ("tls://host", "<NatsBroker tls://host new>"),
    ],
)
def test_the_scheme_chooses_and_credentials_are_not_shown(url: str, text: str) -> None:
    assert repr(open_broker(url)) == text


def test_options_are_those_of_the_broker() -> None:
    broker = open_broker("memory://", hub=MemoryHub())
    assert isinstance(broker, MemoryBroker)
    with pytest.raises(BrokerError, match="prefix"):
        open_broker("nats://host", prefix="a b")


@pytest.mark.parametrize(
    ("url", "text", "expected"),
    [
        (
            "redis://host/2?durable=true&prefix=a%2Fb",
            "redis://host/2",
            {"_durable": True, "_prefix": "a/b:2"},
        ),
        (
            "redis://host?durable=0&client_name=x&prefix=a",
            "redis://host",
            {"_durable": False, "_prefix": "a:0"},
        ),
        (
            "redis://host?db=3",
            "redis://host",
            {"_durable": False, "_prefix": "websockets-routes:3"},
        ),
        ("nats://a,b:2?memory=1", "nats://a,nats://b:2", {"_memory": True}),
    ],
    ids=["all", "some", "none", "nats"],
)
def test_a_url_may_have_options(url: str, text: str, expected: dict[str, Any]) -> None:
    broker = open_broker(url)
    assert text in repr(broker)
    assert {name: getattr(broker, name) for name in expected} == expected


def test_options_of_the_call_come_before_those_of_the_url() -> None:
    broker = open_broker("redis://host?durable=true", durable=False)
    assert not vars(broker)["_durable"]


def test_an_option_of_a_url_has_to_make_sense() -> None:
    with pytest.raises(BrokerError, match="durable is true or false, not 'maybe'"):
        open_broker("redis://:secret@host?durable=maybe")
    with pytest.raises(BrokerError, match="prefix"):
        open_broker("nats://host?prefix=a%20b")


@pytest.mark.parametrize("url", ["", "localhost", "kafka://host"])
def test_an_unknown_scheme_tells_those_known(url: str) -> None:
    with pytest.raises(BrokerError, match=r"memory://, redis://, .* nats://"):
        open_broker(url)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("localhost:6379", "broker 'localhost:6379': unknown"),
        ("user:secret@localhost", "broker 'localhost': unknown"),
        ("redis:localhost", "broker 'redis:localhost': unknown"),
        ("redis://:secret@[::1", "broker [::1: no URL: Invalid IPv6 URL"),
    ],
    ids=["no-scheme", "credentials", "no-slashes", "brackets"],
)
def test_what_is_no_url_is_named_without_credentials(url: str, problem: str) -> None:
    with pytest.raises(BrokerError) as raised:
        open_broker(url)
    assert str(raised.value).startswith(problem)


def test_a_client_that_is_not_installed_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for client in ("redis", "nats"):
        code = (
            "import sys\n"
            "class Missing:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            f"        if name == {client!r}:\n"
            f"            raise ModuleNotFoundError(name, name={client!r})\n"
            "sys.meta_path.insert(0, Missing())\n"
            "from websockets_routes.brokers import open_broker\n"
            f"open_broker('{client}://host')\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert (
            f"broker {client}://: it needs pip install 'websockets-routes[{client}]'"
            in result.stderr
        )


def test_another_module_that_is_missing_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from websockets_routes.brokers import opening

    monkeypatch.setitem(opening._ENGINES, "odd", ("no_such", "Odd", "client", "odd"))
    with pytest.raises(ModuleNotFoundError, match="no_such"):
        open_broker("odd://")


def test_importing_the_brokers_imports_no_client() -> None:
    code = "import sys, websockets_routes.brokers as b; b.open_broker('memory://')"
    code += "; print(*sys.modules)"
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert not {"redis", "nats"} & set(output.split())


@pytest.mark.parametrize(
    "error",
    [BrokerError("x", "refused"), BrokerUnavailable("x", "gone", sent=False)],
    ids=repr,
)
def test_errors_survive_a_pickle_and_mean_try_again_later(error: BrokerError) -> None:
    restored = pickle.loads(pickle.dumps(error))
    assert (type(restored), vars(restored)) == (type(error), vars(error))
    assert str(restored) == f"broker x: {error.problem}"
    assert (error.status, error.close_code) == (503, 1013)


def test_a_publish_that_failed_may_have_been_sent_unless_it_says_no() -> None:
    assert BrokerUnavailable("x", "gone").sent
