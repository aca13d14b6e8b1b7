"""A session over HTTP/3, by aioquic: HTTP Datagrams are QUIC DATAGRAM frames."""

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3_ALPN, H3Connection, Setting
from aioquic.h3.events import DataReceived, DatagramReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset

from masque import Session


def opening(port, ca):
    """A context manager of a connection."""
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN,
        server_name="localhost",
        max_datagram_frame_size=65536,
        # Room for a 1200-byte packet of an inner connection.
        max_datagram_size=1400,
        max_data=16 << 20,
        max_stream_data=8 << 20,
    )
    configuration.load_verify_locations(cafile=ca)
    return connect("127.0.0.1", port, configuration=configuration, create_protocol=Http3)


class Http3(Session, QuicConnectionProtocol):
    """One connection to the relay."""

    needs = (Setting.ENABLE_CONNECT_PROTOCOL, Setting.H3_DATAGRAM)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._http = Http(self._quic)

    def next_stream_id(self):
        return self._quic.get_next_available_stream_id()

    def send_head(self, stream_id, fields):
        self._http.send_headers(stream_id, fields)
        self.transmit()

    def send(self, stream_id, data, end):
        self._http.send_data(stream_id, data, end_stream=end)
        self.transmit()

    def send_datagram(self, stream_id, datagram):
        self._http.send_datagram(stream_id, datagram)
        self.transmit()

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.lost(f"connection closed: {event.error_code:#x} {event.reason_phrase!r}")
        if isinstance(event, StreamReset) and event.stream_id in self.tunnels:
            self.tunnels[event.stream_id].broke(f"stream reset: {event.error_code:#x}")
        for heard in self._http.handle_event(event):
            tunnel = self.tunnels.get(heard.stream_id)
            if tunnel is not None:
                tell(tunnel, heard)
        if self._http.received_settings is not None:
            self.heard_settings(self._http.received_settings)


def tell(tunnel, heard):
    if isinstance(heard, HeadersReceived):
        tunnel.heard_head(heard.headers)
    if isinstance(heard, DataReceived):
        tunnel.heard_data(heard.data)
    if isinstance(heard, DatagramReceived):
        tunnel.heard_datagram(heard.data)
    if getattr(heard, "stream_ended", False):
        tunnel.heard_end()


class Http(H3Connection):
    """aioquic announces HTTP datagrams only together with WebTransport; we want them alone."""

    def _get_local_settings(self):
        return {**super()._get_local_settings(), Setting.H3_DATAGRAM: 1}
