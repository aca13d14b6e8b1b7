"""An HTTP/3 server on 127.0.0.1 that sends every request's body back; prints `ready PORT`."""

import asyncio
import sys

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration


class Origin(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._http = H3Connection(self._quic)
        self._bodies = {}

    def quic_event_received(self, event):
        for heard in self._http.handle_event(event):
            if isinstance(heard, HeadersReceived):
                self._bodies[heard.stream_id] = b""
            if isinstance(heard, DataReceived):
                self._bodies[heard.stream_id] += heard.data
            if getattr(heard, "stream_ended", False):
                self._answer(heard.stream_id, self._bodies.pop(heard.stream_id))
        self.transmit()

    def _answer(self, stream_id, body):
        length = str(len(body)).encode()
        self._http.send_headers(stream_id, [(b":status", b"200"), (b"content-length", length)])
        self._http.send_data(stream_id, body, end_stream=True)


async def main(certificate, key):
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(certificate, key)
    server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=Origin)
    print("ready", server._transport.get_extra_info("sockname")[1], flush=True)
    # Until the test kills it.
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
