"""How long a client may take for the head of a request. (Its body's time is the gate's affair.)"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def patient(seconds: float) -> type[H11Protocol]:
    """The protocol of a connection that is closed when the head of a request is not there after that time.

    It counts from the opening of the connection, later from the first byte behind an answer: so it also ends who goes
    on sending a body that was refused. uvicorn has a limit between requests alone.
    """

    class Patient(H11Protocol):
        _limit: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._limit = self.loop.call_later(seconds, self._late)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._done()
            elif self._limit is None:
                self._limit = self.loop.call_later(seconds, self._late)

        def connection_lost(self, exc: Exception | None) -> None:
            self._done()
            super().connection_lost(exc)

        def _done(self) -> None:
            if self._limit is not None:
                self._limit.cancel()
                self._limit = None

        def _late(self) -> None:
            if not self.transport.is_closing():
                if self.cycle is None:
                    self.transport.write(LATE)
                self.transport.close()

    return Patient
