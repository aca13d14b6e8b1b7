"""A small MASQUE client on aioquic: CONNECT (RFC 9114 section 4.4) and CONNECT-UDP (RFC 9298).

It shares no code with the relay, so what both sides would get wrong together shows here.
Every wait is bounded; what fails says what it was waiting for and exits 1.
"""

import asyncio
import sys
import traceback
from contextlib import asynccontextmanager
from pathlib import Path

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection, Setting
from aioquic.h3.events import DataReceived, DatagramReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset


class Trouble(Exception):
    """What went otherwise than the scenario needs."""


class Tunnel:
    """One CONNECT stream and what came back on it."""

    def __init__(self, relay, name):
        self.name = name
        self.stream_id = relay._quic.get_next_available_stream_id()
        self._relay = relay
        self._head = asyncio.get_running_loop().create_future()
        self._back = asyncio.Queue()
        self._datagrams = asyncio.Queue()

    def send(self, data=b"", end=False):
        """Stream bytes towards the target; `end` closes our direction."""
        self._relay.http.send_data(self.stream_id, data, end_stream=end)
        self._relay.transmit()

    async def receive(self):
        """The next stream bytes from the target; None at its end."""
        return await within(f"stream bytes of {self.name}", taken(self._back))

    def send_udp(self, payload):
        """One UDP payload towards the target, in context 0 (RFC 9298 section 5)."""
        self._relay.http.send_datagram(self.stream_id, b"\x00" + payload)
        self._relay.transmit()

    async def receive_udp(self):
        """The next UDP payload from the target."""
        datagram = await within(f"a datagram of {self.name}", taken(self._datagrams))
        if datagram[:1] != b"\x00":
            raise Trouble(f"{self.name}: a datagram outside context 0: {datagram[:8].hex()}")
        return datagram[1:]

    async def accepted(self):
        """Waits for the answer, which has to be 200."""
        head = await within(f"the answer to {self.name}", self._head)
        if head.get(":status") != "200":
            raise Trouble(f"{self.name}: refused: {head}")
        return self

    def _heard(self, event):
        if isinstance(event, HeadersReceived) and not self._head.done():
            self._head.set_result({k.decode(): v.decode() for k, v in event.headers})
        if isinstance(event, DataReceived) and event.data:
            self._back.put_nowait(event.data)
        if isinstance(event, DatagramReceived):
            self._datagrams.put_nowait(event.data)
        if getattr(event, "stream_ended", False):
            self._back.put_nowait(None)

    def _broke(self, why):
        trouble = Trouble(f"{self.name}: {why}")
        if not self._head.done():
            self._head.set_exception(trouble)
            self._head.exception()  # taken here: nobody may be waiting
        self._back.put_nowait(trouble)
        self._datagrams.put_nowait(trouble)


class Relay(QuicConnectionProtocol):
    """One connection to the relay."""

    token = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = Http(self._quic)
        self._tunnels = {}
        self._settings = asyncio.get_running_loop().create_future()

    async def connect_tcp(self, target):
        """A CONNECT tunnel: a head of `:method` and `:authority` alone."""
        head = {":method": "CONNECT", ":authority": target}
        return await self._open(f"CONNECT {target}", head)

    async def connect_udp(self, host, port):
        """A CONNECT-UDP tunnel, by the default template of RFC 9298 section 3."""
        settings = await self.settings()
        for setting in (Setting.ENABLE_CONNECT_PROTOCOL, Setting.H3_DATAGRAM):
            if settings.get(setting) != 1:
                raise Trouble(f"the relay does not announce {setting.name}: {settings}")
        head = {
            ":method": "CONNECT",
            ":protocol": "connect-udp",
            ":scheme": "https",
            ":authority": f"localhost:{self.port}",
            ":path": f"/.well-known/masque/udp/{host}/{port}/",
            "capsule-protocol": "?1",
        }
        return await self._open(f"CONNECT-UDP {host}:{port}", head)

    async def settings(self):
        """What the relay announced: before that, no extended CONNECT may be sent (RFC 9220)."""
        return await within("the relay's SETTINGS", asyncio.shield(self._settings))

    async def _open(self, name, head):
        tunnel = Tunnel(self, name)
        tunnel.name = f"{name} (stream {tunnel.stream_id})"
        self._tunnels[tunnel.stream_id] = tunnel
        head["proxy-authorization"] = f"Bearer {self.token}"
        fields = [(k.encode(), v.encode()) for k, v in head.items()]
        self.http.send_headers(tunnel.stream_id, fields)
        self.transmit()
        return await tunnel.accepted()

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            why = f"connection closed: {event.error_code:#x} {event.reason_phrase!r}"
            for tunnel in self._tunnels.values():
                tunnel._broke(why)
            if not self._settings.done():
                self._settings.set_exception(Trouble(why))
                self._settings.exception()
        if isinstance(event, StreamReset) and event.stream_id in self._tunnels:
            self._tunnels[event.stream_id]._broke(f"stream reset: {event.error_code:#x}")
        for heard in self.http.handle_event(event):
            tunnel = self._tunnels.get(heard.stream_id)
            if tunnel is not None:
                tunnel._heard(heard)
        if self.http.received_settings is not None and not self._settings.done():
            self._settings.set_result(self.http.received_settings)


class Http(H3Connection):
    """aioquic announces HTTP datagrams only together with WebTransport; we want them alone."""

    def _get_local_settings(self):
        return {**super()._get_local_settings(), Setting.H3_DATAGRAM: 1}


@asynccontextmanager
async def relay(port, certs):
    """A connection to the relay on 127.0.0.1, with the CA and the token that `--dev` made."""
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN,
        server_name="localhost",
        max_datagram_frame_size=65536,
        # Room for a 1200-byte packet of an inner connection.
        max_datagram_size=1400,
        max_data=16 << 20,
        max_stream_data=8 << 20,
    )
    configuration.load_verify_locations(cafile=str(Path(certs) / "ca.pem"))
    opening = connect(
        "127.0.0.1", int(port), configuration=configuration, create_protocol=Relay
    )
    session = await within(f"the handshake with 127.0.0.1:{port}", opening.__aenter__())
    try:
        session.port = int(port)
        session.token = (Path(certs) / "token").read_text().strip()
        yield session
    finally:
        await within("the end of the connection", opening.__aexit__(None, None, None))


async def taken(queue):
    """The next of a queue; what broke stays in it, so that later readers hear of it too."""
    item = await queue.get()
    if isinstance(item, Trouble):
        queue.put_nowait(item)
        raise item
    return item


async def within(what, awaitable):
    """Waits a bounded time, and says for what it waited in vain."""
    try:
        return await asyncio.wait_for(awaitable, WAIT)
    except TimeoutError:
        raise Trouble(f"waited {WAIT} s in vain for {what}") from None


def run(scenario, arguments):
    """Runs `scenario(*argv)`: exit 0, 1 when it fails, 2 when called wrongly."""
    given = sys.argv[1:]
    if len(given) != len(arguments.split()):
        print(f"usage: {sys.argv[0]} {arguments}", file=sys.stderr)
        sys.exit(2)
    try:
        asyncio.run(asyncio.wait_for(scenario(*given), WHOLE))
    except Trouble as trouble:
        print(f"error: {trouble}", file=sys.stderr)
        sys.exit(1)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


# Seconds for one wait: far above what a loaded machine needs, so that only a hang meets it.
WAIT = 60
# Seconds for a scenario: below the 120 s that an interop test may take.
WHOLE = 110
