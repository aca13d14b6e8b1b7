"""An HTTP/3 request inside a CONNECT-UDP tunnel: QUIC in QUIC, as a browser behind a relay does."""

import asyncio
import hashlib

from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted

from masque import Trouble, relay, run


async def nested(http, port, certs, origin_port, origin_ca):
    body = b"".join(hashlib.sha256(n.to_bytes(4)).digest() for n in range(BODY // 32))
    async with relay(http, port, certs) as session:
        tunnel = await session.connect_udp("127.0.0.1", origin_port)
        echoed = await Inner(tunnel, origin_ca).post(body)
    if echoed != body:
        raise Trouble(f"sent {len(body)} bytes, other {len(echoed)} bytes came back")
    print(len(echoed))


class Inner:
    """An HTTP/3 client whose packets travel in a tunnel instead of a socket."""

    def __init__(self, tunnel, ca):
        configuration = QuicConfiguration(alpn_protocols=H3_ALPN, server_name="origin.test")
        configuration.load_verify_locations(cafile=ca)
        self._tunnel = tunnel
        self._quic = QuicConnection(configuration=configuration)
        self._http = H3Connection(self._quic)
        self._clock = asyncio.get_running_loop().time
        self._status = None
        self._body = b""
        self._over = False

    async def post(self, body):
        """Sends one request once the handshake is done; the response's body."""
        self._quic.connect(PLACE, now=self._clock())
        while not self._over:
            self._flush()
            await self._packet_or_timer()
            while (event := self._quic.next_event()) is not None:
                if isinstance(event, ConnectionTerminated):
                    raise Trouble(f"inner connection: {event.error_code:#x} {event.reason_phrase}")
                if isinstance(event, HandshakeCompleted):
                    self._request(body)
                for heard in self._http.handle_event(event):
                    self._heard(heard)
        self._quic.close()
        self._flush()
        if self._status != b"200":
            raise Trouble(f"the inner server answered {self._status}")
        return self._body

    def _request(self, body):
        stream_id = self._quic.get_next_available_stream_id()
        head = {b":method": b"POST", b":scheme": b"https", b":authority": b"origin.test", b":path": b"/"}
        self._http.send_headers(stream_id, list(head.items()))
        self._http.send_data(stream_id, body, end_stream=True)

    def _heard(self, heard):
        if isinstance(heard, HeadersReceived):
            self._status = dict(heard.headers)[b":status"]
        if isinstance(heard, DataReceived):
            self._body += heard.data
        self._over |= getattr(heard, "stream_ended", False)

    def _flush(self):
        for packet, _ in self._quic.datagrams_to_send(now=self._clock()):
            self._tunnel.send_udp(packet)

    async def _packet_or_timer(self):
        timer = self._quic.get_timer()
        try:
            async with asyncio.timeout_at(timer):
                packet = await self._tunnel.receive_udp()
        except TimeoutError:
            self._quic.handle_timer(now=max(timer, self._clock()))
        else:
            self._quic.receive_datagram(packet, PLACE, now=self._clock())


# Some two hundred full packets each way: more than the first flight of any congestion control.
BODY = 256 * 1024
# The tunnel has one target; the inner connection only needs a name for it.
PLACE = ("192.0.2.1", 443)

run(nested, "HTTP RELAY_PORT CERTS_DIR ORIGIN_PORT ORIGIN_CA")
