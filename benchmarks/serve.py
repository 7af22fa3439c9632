"""Mixed requests against `zhen serve`, many at a time: answered, streamed, aborted, malformed, oversized, with wrong
keys and slow readers. Every answer is checked; prints how long they took, what was refused, the server's memory.

    python benchmarks/serve.py CHECKPOINT [--requests 5000] [--connections 32]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEY = "benchmark-key"
BODY = 60_000
KINDS = {
    "whole": 30, "streamed": 25, "chat": 5, "aborted": 10, "slow reader": 5,
    "malformed": 8, "oversized": 4, "bad key": 8, "tokenize": 3, "health": 2,
}  # fmt: skip
"""Kinds of requests, out of a hundred."""
EXPECTED = {"malformed": 400, "oversized": 413, "bad key": 401}
BROKEN = (b"{", b"[]", b'{"prompt": 1}', b'{"prompt": "a", "max_tokens": -1}', b'{"prompt": "a", "x": 0}', b"\xff")
PROMPTS = [f"The town of number {n}" for n in range(20)] + [f"第{n}个镇子在湖边" for n in range(20)]


@dataclass
class Tally:
    """What came of the requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Of answers that came whole."""


@dataclass
class Reply:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """Sends requests of all kinds to a server and checks what comes."""

    def __init__(self, port: int, *, chat: bool) -> None:
        self.port, self.chat = port, chat
        self.tally = Tally()
        self._known: dict[str, str] = {}

    async def learn(self) -> None:
        """What each prompt is answered alone: later answers must be the same."""
        for prompt in PROMPTS:
            reply = await self.exchange("/v1/completions", self._ask(prompt))
            self._known[prompt] = json.loads(reply.body)["choices"][0]["text"]

    async def run(self, count: int, connections: int, seed: int = 0) -> None:
        """Send `count` requests, `connections` at a time."""
        draw = random.Random(seed)
        kinds = draw.choices(list(KINDS), list(KINDS.values()), k=count)
        jobs = iter([(kind, draw.choice(PROMPTS), draw.choice(BROKEN)) for kind in kinds])

        async def work() -> None:
            for kind, prompt, broken in jobs:
                await self._one(kind, prompt, broken)

        await asyncio.gather(*(work() for _ in range(connections)))

    async def _one(self, kind: str, prompt: str, broken: bytes) -> None:
        begun = time.perf_counter()
        try:
            outcome = await self._outcome(kind, prompt, broken)
        except (OSError, ValueError, LookupError, asyncio.IncompleteReadError) as error:
            outcome = f"wrong: {type(error).__name__} {error}"
        if outcome == "answered":
            self.tally.seconds.append(time.perf_counter() - begun)
        if outcome.startswith("wrong"):
            self.tally.wrong.append(f"{kind}: {outcome}")
        self.tally.outcomes[outcome.partition(":")[0]] += 1

    async def _outcome(self, kind: str, prompt: str, broken: bytes) -> str:
        if kind in EXPECTED:
            body = {"malformed": broken, "oversized": b" " * (BODY + 1)}.get(kind, self._ask(prompt))
            try:
                reply = await self.exchange("/v1/completions", body, key="wrong" if kind == "bad key" else KEY)
            except ConnectionResetError:
                if kind != "oversized":
                    raise
                return "refused as it should be"  # the rest of the body met a closed door, before its 413 was read
            right = reply.status == EXPECTED[kind] and json.loads(reply.body)["error"]["message"]
            return "refused as it should be" if right else f"wrong: {reply.status}"
        if kind == "health":
            return "answered" if (await self.exchange("/health")).status == 200 else "wrong: health"
        if kind == "tokenize":
            reply = await self.exchange("/tokenize", json.dumps({"prompt": prompt}).encode())
            return "answered" if json.loads(reply.body)["count"] > 0 else "wrong: tokens"
        if kind == "aborted":
            await self.abort(self._ask(prompt, stream=True))
            return "aborted"
        if kind == "chat" and self.chat:
            turns = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 8, "temperature": 0}
            reply = await self.exchange("/v1/chat/completions", json.dumps(turns).encode())
            return _busy(reply) or ("answered" if json.loads(reply.body)["usage"] else "wrong: no usage")
        stream = kind != "whole"
        reply = await self.exchange("/v1/completions", self._ask(prompt, stream=stream), slow=kind == "slow reader")
        if busy := _busy(reply):
            return busy
        text = _streamed(reply.body) if stream else json.loads(reply.body)["choices"][0]["text"]
        return "answered" if text == self._known[prompt] else "wrong: another text"

    @staticmethod
    def _ask(prompt: str, stream: bool = False) -> bytes:
        return json.dumps({"prompt": prompt, "max_tokens": 24, "temperature": 0, "stream": stream}).encode()

    async def exchange(self, path: str, body: bytes | None = None, key: str = KEY, slow: bool = False) -> Reply:
        """Send a request and read its answer to the end; `slow`: a few bytes at a time."""
        reader, writer = await self.send(path, body, key, 64 if slow else 1 << 16)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            parts = []
            while part := await reader.read(16 if slow else 1 << 16):
                parts.append(part)
                if slow:
                    await asyncio.sleep(0)
        finally:
            writer.close()
        raw = b"".join(parts)
        whole = _dechunked(raw) if headers.get("transfer-encoding") == "chunked" else raw
        return Reply(int(head[0].split()[1]), headers, whole)

    async def abort(self, body: bytes) -> None:
        """Go away in the middle of an answer."""
        reader, writer = await self.send("/v1/completions", body)
        await reader.read(40)
        writer.transport.abort()

    async def send(
        self, path: str, body: bytes | None, key: str = KEY, limit: int = 1 << 16
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request and leave its answer to be read; `limit`: bytes that are read ahead."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=max(limit, 1 << 12))
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body is not None else ""
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: localhost\r\n{length}"
        writer.write(f"{head}Authorization: Bearer {key}\r\nConnection: close\r\n\r\n".encode() + (body or b""))
        return reader, writer


def _busy(reply: Reply) -> str:
    """What a full server said; empty where it answered."""
    if reply.status == 200:
        return ""
    right = reply.status == 429 and int(reply.headers["retry-after"]) > 0
    return "asked to come again" if right else f"wrong: {reply.status}"


def _streamed(body: bytes) -> str:
    events = [line[6:] for line in body.decode().split("\n\n") if line.startswith("data: ")]
    if events[-1] != "[DONE]":
        raise ValueError("a stream without its end")
    return "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1])


def _dechunked(raw: bytes) -> bytes:
    whole = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        whole, raw = whole + raw[: int(size, 16)], raw[int(size, 16) + 2 :]
        if int(size, 16) == 0:
            return whole
    raise ValueError("an answer cut off")


def start(checkpoint: Path, port: int, *options: str) -> subprocess.Popen[str]:
    """A server of that checkpoint, once it listens."""
    command = [sys.executable, "-m", "zhen", "serve", str(checkpoint), "--port", str(port), "--no-page", *options]
    process = subprocess.Popen([*command, "--api-key", KEY], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    for line in process.stderr:
        if line.startswith("API: "):
            return process
    raise SystemExit("the server did not start")


def memory(process: int) -> float:
    """Megabytes that a process holds now."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1e3


def share(values: Sequence[float], part: float) -> float:
    """The value below which that part of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


async def measure(process: subprocess.Popen[str], options: Any) -> Tally:
    """Send all requests in ten parts, looking at the server's memory between them."""
    client = Client(options.port, chat=options.chat)
    await client.learn()
    held = []
    begun = time.perf_counter()
    for part in range(10):
        await client.run(options.requests // 10, options.connections, seed=part)
        held.append(memory(process.pid))
    seconds = time.perf_counter() - begun
    tally = client.tally
    print(f"{options.requests} requests at {options.connections} connections in {seconds:.1f} s")
    for outcome, count in tally.outcomes.most_common():
        print(f"  {outcome:28} {count:6}")
    print(f"answered: p50 {share(tally.seconds, 0.5) * 1e3:.0f} ms, p99 {share(tally.seconds, 0.99) * 1e3:.0f} ms")
    print("memory after each tenth, MB: " + " ".join(f"{value:.0f}" for value in held))
    print("\n".join(tally.wrong[:10]) or "none wrong, none lost")
    return tally


def main() -> None:
    """Start a server, send it the requests, stop it by SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--chat", action="store_true", help="the model has a chat template")
    options = parser.parse_args()
    process = start(options.checkpoint, options.port, "--max-requests", "28", "--max-body", str(BODY))
    assert process.stderr
    reading = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
    tally = asyncio.run(measure(process, options))
    process.send_signal(signal.SIGTERM)
    status = process.wait()
    reading.wait()
    print(f"after SIGTERM: exit status {status}")
    raise SystemExit(bool(tally.wrong or status))


if __name__ == "__main__":
    main()
