"""History on Redis: a stream and its position, changed by scripts, each atomically.

The entries of the stream have the ids ``OFFSET-MILLISECONDS``: they are found by
offset, and how old the oldest one is can be told from its id.
"""

from __future__ import annotations

from typing import Any

from ..pubsub.history import new_epoch
from .base import HistoryPage, HistoryPolicy, Position
from .wire import decode

__all__ = [
    "PUBLISH",
    "READ",
    "history_keys",
    "publish_arguments",
    "read_arguments",
    "read_page",
]

# KEYS: the stream, the position, and for publishing the idempotency key.
# The first four ARGV of both scripts:
_COMMON = """
local length, ttl = tonumber(ARGV[1]), tonumber(ARGV[2])
local fresh, incarnation = ARGV[3], ARGV[4]
local DAY = 86400000

local function text(number) return string.format('%.0f', number) end
local function offset_of(id) return tonumber(string.match(id, '^%d+')) end
local function time_of(id) return tonumber(string.match(id, '%d+$')) end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- What another incarnation of the engine has kept is right, but it may have kept
-- less than it had confirmed: so the offsets go on in a new epoch.
local function position()
  local known = redis.call('HMGET', KEYS[2], 'epoch', 'offset', 'incarnation')
  local epoch, offset = known[1], tonumber(known[2] or '0')
  if epoch and known[3] == incarnation then return epoch, offset end
  local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  if last then
    offset = math.max(offset, offset_of(last[1]))
  elseif not epoch then
    redis.call('DEL', KEYS[1])
  end
  redis.call('HSET', KEYS[2], 'epoch', fresh, 'offset', text(offset),
    'incarnation', incarnation)
  if offset == 0 then redis.call('PEXPIRE', KEYS[2], ttl + DAY) end
  return fresh, offset
end

local function trim()
  if ttl == 0 then return end
  local count = 1
  while true do
    local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', count)
    if #oldest == 0 then return end
    for index, entry in ipairs(oldest) do
      if time_of(entry[1]) > now - ttl then
        if index > 1 then redis.call('XTRIM', KEYS[1], 'MINID', entry[1]) end
        return
      end
    end
    local last = offset_of(oldest[#oldest][1])
    redis.call('XTRIM', KEYS[1], 'MINID', text(last + 1))
    count = 100
  end
end
"""

# ARGV: channel, frame, window of the idempotency key in milliseconds or 0.
PUBLISH = (
    _COMMON
    + """
local channel, frame, window = ARGV[5], ARGV[6], tonumber(ARGV[7])
if window > 0 then
  local first = redis.call('GET', KEYS[3])
  if first then
    local epoch, offset = string.match(first, '^(%S*) (%d*)$')
    return {1, epoch, offset}
  end
end
local epoch, offset = '', ''
if length > 0 then
  epoch = position()
  offset = text(redis.call('HINCRBY', KEYS[2], 'offset', 1))
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', length, offset .. '-' .. text(now),
    'm', frame)
  trim()
  if ttl > 0 then
    redis.call('PEXPIRE', KEYS[1], ttl)
    redis.call('PEXPIRE', KEYS[2], ttl + DAY)
  else
    redis.call('PERSIST', KEYS[1])
    redis.call('PERSIST', KEYS[2])
  end
  frame = 'H' .. epoch .. ':' .. offset .. '\\n' .. frame
end
if window > 0 then
  redis.call('SET', KEYS[3], epoch .. ' ' .. offset, 'PX', window)
end
redis.call('PUBLISH', channel, frame)
return {0, epoch, offset}
"""
)

# ARGV: epoch and offset asked about or two empty ones, limit or 0, '1' for reverse.
READ = (
    _COMMON
    + """
local since_epoch, since = ARGV[5], tonumber(ARGV[6])
local limit, reverse = tonumber(ARGV[7]), ARGV[8] == '1'
local epoch, offset = position()
trim()
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local first = oldest and offset_of(oldest[1]) or offset + 1
first = math.max(first, offset - length + 1)
local last = offset
if since then
  if since_epoch ~= epoch or since < 0 or since > offset
      or not reverse and since + 1 < first then
    return {0, epoch, text(offset), {}}
  end
  if reverse then last = since - 1 else first = since + 1 end
end
if first > last then return {1, epoch, text(offset), {}} end
local command = {'XRANGE', KEYS[1], text(first), text(last)}
if reverse then command = {'XREVRANGE', KEYS[1], text(last), text(first)} end
if limit > 0 then
  table.insert(command, 'COUNT')
  table.insert(command, limit)
end
return {1, epoch, text(offset), redis.call(unpack(command))}
"""
)


def history_keys(prefix: str, topic: str) -> tuple[str, str, str]:
    """Name the keys of a topic: stream, position, and what idempotency keys follow.

    All are in one hash slot.
    """
    # Empty braces would be no hash tag, and a brace would end it.
    tag = topic.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    base = f"{prefix}:{{{tag}}}"
    return f"{base}:stream", f"{base}:position", f"{base}:key:"


def publish_arguments(
    policy: HistoryPolicy | None,
    incarnation: str,
    channel: bytes,
    frame: bytes,
    window: float,
) -> tuple[Any, ...]:
    """List the arguments of ``PUBLISH``."""
    milliseconds = max(1, round(window * 1000)) if window else 0
    return *_policy_arguments(policy, incarnation), channel, frame, milliseconds


def read_arguments(
    policy: HistoryPolicy,
    incarnation: str,
    since: Position | None,
    limit: int | None,
    reverse: bool,
) -> tuple[Any, ...]:
    """List the arguments of ``READ``."""
    place = ("", "") if since is None else (since.epoch, since.offset)
    return (
        *_policy_arguments(policy, incarnation),
        *place,
        limit or 0,
        "1" if reverse else "0",
    )


def _policy_arguments(
    policy: HistoryPolicy | None, incarnation: str
) -> tuple[Any, ...]:
    if policy is None:
        return 0, 0, "", ""
    ttl = 0 if policy.ttl is None else round(policy.ttl * 1000)
    return policy.length, ttl, new_epoch(), incarnation


def read_page(topic: str, reply: Any) -> HistoryPage:
    """Read what ``READ`` returned.

    Raises:
        ValueError: If there is something in the stream that is no message.
    """
    recovered, epoch, offset, entries = reply
    epoch = epoch.decode()
    messages = tuple(
        decode(topic, fields[1], int(name.partition(b"-")[0]), epoch)
        for name, fields in entries
    )
    return HistoryPage(messages, epoch, int(offset), bool(recovered))
