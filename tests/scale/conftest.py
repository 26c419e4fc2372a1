"""Engines, as for the contract of brokers, and nodes that share one."""

from tests.contract.conftest import mortal_nats, mortal_valkey, nats, prefix, valkey

__all__ = ["mortal_nats", "mortal_valkey", "nats", "prefix", "valkey"]
