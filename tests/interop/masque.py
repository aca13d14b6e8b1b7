"""A small MASQUE client: CONNECT (RFC 9110 section 9.3.6) and CONNECT-UDP (RFC 9298).

`over_h3` carries it by aioquic, `over_h2` by h2. It shares no code with the relay, so what both
sides would get wrong together shows here. Every wait is bounded; what fails says what it was
waiting for and exits 1.
"""

import asyncio
import importlib
import sys
import traceback
from contextlib import asynccontextmanager
from pathlib import Path


class Trouble(Exception):
    """What went otherwise than the scenario needs."""


class Tunnel:
    """One CONNECT stream and what came back on it."""

    def __init__(self, session, name, stream_id):
        self.name = f"{name} (stream {stream_id})"
        self.stream_id = stream_id
        self._session = session
        self._head = asyncio.get_running_loop().create_future()
        self._back = asyncio.Queue()
        self._datagrams = asyncio.Queue()

    def send(self, data=b"", end=False):
        """Stream bytes towards the target; `end` closes our direction."""
        self._session.send(self.stream_id, data, end)

    async def receive(self):
        """The next stream bytes from the target; None at its end."""
        return await within(f"stream bytes of {self.name}", taken(self._back))

    def send_udp(self, payload):
        """One UDP payload towards the target, in context 0 (RFC 9298 section 5)."""
        self._session.send_datagram(self.stream_id, b"\x00" + payload)

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

    # What the session hears of this stream.

    def heard_head(self, fields):
        if not self._head.done():
            self._head.set_result({k.decode(): v.decode() for k, v in fields})

    def heard_data(self, data):
        if data:
            self._back.put_nowait(data)

    def heard_datagram(self, datagram):
        self._datagrams.put_nowait(datagram)

    def heard_end(self):
        self._back.put_nowait(None)

    def broke(self, why):
        trouble = Trouble(f"{self.name}: {why}")
        if not self._head.done():
            self._head.set_exception(trouble)
            self._head.exception()  # taken here: nobody may be waiting
        self._back.put_nowait(trouble)
        self._datagrams.put_nowait(trouble)


class Session:
    """One connection to the relay, of either version of HTTP.

    The version has `next_stream_id`, `send_head`, `send` and `send_datagram`, and names in
    `needs` the settings that CONNECT-UDP takes.
    """

    port = None
    token = None
    needs = ()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.tunnels = {}
        self._settings = asyncio.get_running_loop().create_future()

    async def connect_tcp(self, target):
        """A CONNECT tunnel: a head of `:method` and `:authority` alone."""
        head = {":method": "CONNECT", ":authority": target}
        return await self._open(f"CONNECT {target}", head)

    async def connect_udp(self, host, port):
        """A CONNECT-UDP tunnel, by the default template of RFC 9298 section 3."""
        settings = await self.settings()
        for setting in self.needs:
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
        """What the relay announced: before that, no extended CONNECT may be sent (RFC 8441, 9220)."""
        return await within("the relay's SETTINGS", asyncio.shield(self._settings))

    async def _open(self, name, head):
        tunnel = Tunnel(self, name, self.next_stream_id())
        self.tunnels[tunnel.stream_id] = tunnel
        head["proxy-authorization"] = f"Bearer {self.token}"
        fields = [(k.encode(), v.encode()) for k, v in head.items()]
        self.send_head(tunnel.stream_id, fields)
        return await tunnel.accepted()

    def heard_settings(self, settings):
        if not self._settings.done():
            self._settings.set_result(settings)

    def lost(self, why):
        """The connection is over, and with it every tunnel."""
        for tunnel in self.tunnels.values():
            tunnel.broke(why)
        if not self._settings.done():
            self._settings.set_exception(Trouble(why))
            self._settings.exception()


@asynccontextmanager
async def relay(http, port, certs):
    """A connection to the relay on 127.0.0.1 over `http`, h3 or h2, with the CA and the token that `--dev` made."""
    opening = importlib.import_module(f"over_{http}").opening(int(port), str(Path(certs) / "ca.pem"))
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
