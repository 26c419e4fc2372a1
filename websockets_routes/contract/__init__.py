"""What every broker has to keep, as tests: subclass, and let pytest collect.

    from websockets_routes.testing import BrokerContract

    class TestMyBroker(BrokerContract):
        @pytest.fixture(autouse=True)
        def prepare(self):
            self.prefix = uuid4().hex

        def make_broker(self):
            return MyBroker("my://localhost", prefix=self.prefix)

The tests are coroutine functions: pytest-asyncio runs them in its automatic mode. A
broker with an engine passes ``EngineContract`` too.
"""

from .engine import BrokerContract, EngineContract
from .node import Node

__all__ = ["BrokerContract", "EngineContract", "Node"]
