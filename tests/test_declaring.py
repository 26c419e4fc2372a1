"""Declaring: the topics that a route subscribes its connections to."""

from __future__ import annotations

from typing import Any

import pytest

from websockets_routes import (
    EndpointError,
    InvalidTopic,
    Router,
    TemplateError,
    Topic,
)


async def handler(ws: Any) -> None: ...


def subscribed(template: str, subscribe: Any, **options: Any) -> list[str]:
    route = Router().add_route(template, handler, subscribe=subscribe, **options)
    return [str(topic) for topic in route.subscribe]


def test_a_route_subscribes_to_nothing_by_default() -> None:
    assert Router().add_route("/", handler).subscribe == ()
    assert subscribed("/", ()) == []


def test_a_route_subscribes_to_one_topic_or_to_several() -> None:
    topic = Topic("user/{user}")
    assert subscribed("/{user}/{room}", "room/{room}") == ["room/{room}"]
    assert subscribed("/{user}/{room}", topic) == ["user/{user}"]
    several = [topic, "room/{room}", "all"]
    wanted = ["user/{user}", "room/{room}", "all"]
    assert subscribed("/{user}/{room}", several) == wanted
    assert subscribed("/{user}/{room}", tuple(several)) == wanted
    assert subscribed("/{user}/{room}", iter(several)) == wanted


def test_decorators_take_it_too() -> None:
    router = Router()
    router.route("/a/{name}", subscribe="{name}")(handler)

    @router.websocket("/b/{name}", subscribe="b/{name}")
    def callback(ws: Any, opcode: int, payload: object) -> None: ...

    topics = [str(topic) for route in router.routes for topic in route.subscribe]
    assert topics == ["{name}", "b/{name}"]


@pytest.mark.parametrize(
    ("template", "subscribe"),
    [
        ("/", "room/{name}"),
        ("/room/{id}", "room/{name}"),
        ("/room/{name}", ["room/{name}", "user/{user}"]),
        ("/room/{name}", Topic("{other}")),
    ],
)
def test_a_param_that_the_route_has_not_raises(template: str, subscribe: Any) -> None:
    router = Router()
    with pytest.raises(InvalidTopic, match="no param"):
        router.add_route(template, handler, subscribe=subscribe)
    assert router.routes == ()


def test_a_default_is_a_param() -> None:
    options = {"defaults": {"kind": "news"}}
    assert subscribed("/{name}", "{kind}/{name}", **options) == ["{kind}/{name}"]


@pytest.mark.parametrize("subscribe", ["room/#", "+", "room/{name", "room/+/{name}"])
def test_a_template_that_cannot_work_raises(subscribe: str) -> None:
    router = Router()
    with pytest.raises(TemplateError) as caught:
        router.add_route("/{name}", handler, subscribe=subscribe)
    assert caught.value.template == subscribe
    assert router.routes == ()


@pytest.mark.parametrize("subscribe", ["", [""], [7], [None], [b"a"]])
def test_what_is_no_topic_raises(subscribe: Any) -> None:
    with pytest.raises((InvalidTopic, EndpointError)):
        Router().add_route("/{name}", handler, subscribe=subscribe)


def test_a_name_is_built_from_the_params_of_the_path() -> None:
    router = Router()
    room = router.topic("room/{name}")
    route = router.add_route("/{name}/{id}", handler, subscribe=[room, "{id}/{name}"])
    built = route.topics({"name": "a/b", "id": "$x"})
    assert [name for _, name in built] == ["room/a%2Fb", "%24x/a%2Fb"]
    assert built[0][0] is room
    built = route.topics({"name": "+", "id": "#"})
    assert [name for _, name in built] == ["room/%2B", "%23/%2B"]
    built = route.topics({"name": "%2F", "id": "1"})
    assert [name for _, name in built] == ["room/%252F", "1/%252F"]


def test_a_problem_with_a_name_shows_the_template_as_it_was_written() -> None:
    route = Router().add_route("/{a}{.b}", handler, subscribe="x/{a}/{b}")
    with pytest.raises(InvalidTopic) as caught:
        route.topics({"a": "1", "b": ""})
    assert caught.value.topic == "x/{a}/{b}"
