# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands between ssh and a machine, as a ProxyCommand, and is a bad line.

bad_line.py HOST PORT LATENCY CUT STALL: seconds of delay each way, seconds after which the connection is cut, seconds
that it stands still after its first two; 0 for none.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time


class Line:
    """A line between two ends.

    :param latency: seconds of delay each way.
    :param stall: seconds that the line stands still, once.
    """

    def __init__(self, latency: float, stall: float) -> None:
        self._latency = latency
        self._stands_still = time.monotonic() + 2, time.monotonic() + 2 + stall

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one direction to its end."""
        while data := await reader.read(65536):
            await asyncio.sleep(self._latency)
            begin, end = self._stands_still
            if begin < time.monotonic() < end:
                await asyncio.sleep(end - time.monotonic())
            writer.write(data)
            await writer.drain()
        writer.close()


async def main(host: str, port: str, latency: str, cut: str, stall: str) -> None:
    """Relay standard input and output."""
    loop = asyncio.get_running_loop()
    there = await asyncio.open_connection(host, int(port))
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    if float(cut):
        loop.call_later(float(cut), os._exit, 1)
    line = Line(float(latency), float(stall))
    await asyncio.gather(line.relay(reader, there[1]), line.relay(there[0], writer))


asyncio.run(main(*sys.argv[1:]))
