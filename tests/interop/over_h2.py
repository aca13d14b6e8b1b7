"""A session over HTTP/2, by h2 on asyncio: HTTP Datagrams are DATAGRAM capsules in the stream (RFC 9297)."""

import asyncio
import ssl
from collections import deque
from contextlib import asynccontextmanager

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from masque import Session, Trouble


@asynccontextmanager
async def opening(port, ca):
    """A connection, closed in order at the end."""
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    if (chosen := writer.get_extra_info("ssl_object").selected_alpn_protocol()) != "h2":
        raise Trouble(f"the relay chose {chosen} in ALPN")
    session = Http2(writer)
    reading = asyncio.create_task(session.read(reader))
    try:
        yield session
    finally:
        await session.close()
        await reading
        writer.close()
        await writer.wait_closed()


class Http2(Session):
    """One connection to the relay."""

    # HTTP/2 has no setting for datagrams: capsules need none.
    needs = (SettingCodes.ENABLE_CONNECT_PROTOCOL,)

    def __init__(self, writer):
        super().__init__()
        self._writer = writer
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        # What flow control holds back, and the unread rest of a capsule, by stream.
        self._waiting = {}
        self._capsules = {}
        # The streams we have not ended, and for each stream whether the relay has.
        self._ours = set()
        self._over = {}
        self._closing = False
        self._http.initiate_connection()
        self._flush()

    def next_stream_id(self):
        return self._http.get_next_available_stream_id()

    def send_head(self, stream_id, fields):
        self._waiting[stream_id] = deque()
        self._ours.add(stream_id)
        self._over[stream_id] = asyncio.Event()
        if (b":protocol", b"connect-udp") in fields:
            self._capsules[stream_id] = b""
        self._http.send_headers(stream_id, fields)
        self._flush()

    def send(self, stream_id, data, end):
        if end:
            self._ours.discard(stream_id)
        self._waiting[stream_id].append((data, end))
        self._push(stream_id)
        self._flush()

    def send_datagram(self, stream_id, datagram):
        self.send(stream_id, varint(DATAGRAM) + varint(len(datagram)) + datagram, False)

    async def close(self):
        """Ends the tunnels there are, then the connection.

        After its GOAWAY the relay has to close first: Python's TLS takes whatever comes behind our
        close_notify, a WINDOW_UPDATE say, for an error.
        """
        for stream_id in list(self._ours):
            self.send(stream_id, b"", True)
        for over in self._over.values():
            await over.wait()
        self._http.close_connection()
        self._flush()
        self._closing = True

    async def read(self, reader):
        """Hears what comes until the connection ends."""
        why = "connection closed"
        try:
            while data := await reader.read(1 << 16):
                if self._closing:
                    continue
                for event in self._http.receive_data(data):
                    self._hear(event)
                self._flush()
        except (OSError, ProtocolError) as error:
            why = f"connection broken: {error!r}"
        self.lost(why)
        self._ours.clear()
        for over in self._over.values():
            over.set()

    def _hear(self, event):
        tunnel = self.tunnels.get(getattr(event, "stream_id", None))
        if isinstance(event, RemoteSettingsChanged):
            self.heard_settings(dict(self._http.remote_settings))
        if isinstance(event, (RemoteSettingsChanged, WindowUpdated)):
            for stream_id in self._waiting:
                self._push(stream_id)
        if isinstance(event, ResponseReceived):
            tunnel.heard_head(event.headers)
        if isinstance(event, DataReceived):
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if event.stream_id in self._capsules:
                self._capsules[event.stream_id] = read_capsules(tunnel, self._capsules[event.stream_id] + event.data)
            else:
                tunnel.heard_data(event.data)
        if isinstance(event, StreamEnded):
            tunnel.heard_end()
            self._over[event.stream_id].set()
        if isinstance(event, StreamReset):
            self._waiting[event.stream_id].clear()
            self._ours.discard(event.stream_id)
            self._over[event.stream_id].set()
            tunnel.broke(f"stream reset: {event.error_code!r}")
        if isinstance(event, ConnectionTerminated):
            self.lost(f"GOAWAY: {event.error_code!r} {event.additional_data!r}")

    def _push(self, stream_id):
        """Sends of what waits as much as the relay's windows take."""
        waiting = self._waiting[stream_id]
        while waiting:
            data, end = waiting.popleft()
            room = min(self._http.local_flow_control_window(stream_id), self._http.max_outbound_frame_size)
            if len(data) > room:
                waiting.appendleft((data[room:], end))
                data, end = data[:room], False
            if data or end:
                self._http.send_data(stream_id, data, end_stream=end)
            if room == 0:
                return

    def _flush(self):
        if not self._writer.transport.is_closing():
            self._writer.write(self._http.data_to_send())


def read_capsules(tunnel, data):
    """Hands the whole capsules at the start of `data` to the tunnel; the rest of it."""
    while True:
        kind, rest = read_varint(data)
        length, rest = read_varint(rest)
        if length is None or len(rest) < length:
            return data
        if kind == DATAGRAM:
            tunnel.heard_datagram(rest[:length])
        data = rest[length:]


def varint(number):
    """RFC 9000 section 16; capsules of a packet need no more than four bytes."""
    if number < 1 << 6:
        return number.to_bytes(1, "big")
    if number < 1 << 14:
        return (number | 1 << 14).to_bytes(2, "big")
    return (number | 2 << 30).to_bytes(4, "big")


def read_varint(data):
    """The number at the start of `data` and what follows; None for a number that is not all there."""
    size = 1 << (data[0] >> 6) if data else 1
    if len(data) < size:
        return None, b""
    return int.from_bytes(data[:size], "big") & ((1 << 8 * size - 2) - 1), data[size:]


# The type of the DATAGRAM capsule (RFC 9297 section 3.5).
DATAGRAM = 0
