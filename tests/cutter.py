"""A bad network: a TCP proxy whose connections can be cut."""

import asyncio
import socket
import struct
import threading
from contextlib import suppress

from browser import free_port


class Cutter:
    """Listens on 127.0.0.1 on a port of its own, and hands every byte on to a server and back."""

    def __init__(self, server):
        self.server, self.port = server, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cutter", daemon=True)
        self._thread.start()
        self.allow()

    def cut(self) -> int:
        """Reset all open connections, both ways; returns how many there were."""
        return self._do(self._cut())

    def refuse(self) -> None:
        """Accept nobody any more; what is open stays."""
        self._do(self._close_listener())

    def allow(self) -> None:
        self._listener = self._do(asyncio.start_server(self._carry, "127.0.0.1", self.port))

    def close(self) -> None:
        self.refuse()
        self.cut()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _close_listener(self):
        self._listener.close()

    async def _cut(self):
        writers, self._writers = self._writers, set()
        for writer in writers:
            # no lingering: closing sends a reset, and not the end that a server would send
            with suppress(OSError):
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        return len(writers) // 2

    async def _end(self):
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))

    async def _carry(self, reader, writer):
        try:
            there, away = await asyncio.open_connection("127.0.0.1", self.server.port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, away}
        await asyncio.gather(self._pump(reader, away), self._pump(there, writer))
        self._writers -= {writer, away}

    async def _pump(self, reader, writer):
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
