"""Five CONNECT and five CONNECT-UDP tunnels on one connection, all busy at once."""

import asyncio
import hashlib

from masque import Trouble, relay, run


async def many(http, port, certs, tcp_port, udp_port):
    async with relay(http, port, certs) as session:
        # All are open before the first byte moves; the two kinds alternate on the connection.
        await session.settings()
        opening = []
        for _ in range(EACH):
            opening.append(session.connect_tcp(f"127.0.0.1:{tcp_port}"))
            opening.append(session.connect_udp("127.0.0.1", udp_port))
        tunnels = await asyncio.gather(*opening)
        streams, flows = tunnels[0::2], tunnels[1::2]
        await asyncio.gather(
            *(echo_stream(tunnel, f"stream {n}") for n, tunnel in enumerate(streams)),
            *(echo_packets(tunnel, f"flow {n}") for n, tunnel in enumerate(flows)),
        )
    print(len(streams), len(flows))


async def echo_stream(tunnel, own):
    """Sends blocks only this tunnel has; exactly these have to come back, then the end."""
    hashed, sent = hashlib.sha256(), 0
    back, got = hashlib.sha256(), 0
    for number in range(BLOCKS):
        data = block(own, number)
        tunnel.send(data, end=number == BLOCKS - 1)
        hashed.update(data)
        sent += len(data)
        while got < sent:
            data = await tunnel.receive()
            if data is None:
                raise Trouble(f"{tunnel.name}: ended after {got} of {sent} bytes")
            back.update(data)
            got += len(data)
    if got != sent or back.digest() != hashed.digest():
        raise Trouble(f"{tunnel.name}: {got} other bytes than the {sent} that were sent")
    if (more := await tunnel.receive()) is not None:
        raise Trouble(f"{tunnel.name}: {len(more)} bytes too many")


async def echo_packets(tunnel, own):
    """Sends packets only this tunnel has, one after the other; each has to come back."""
    for number in range(BLOCKS):
        packet = block(own, number)[:PACKET]
        tunnel.send_udp(packet)
        if (back := await tunnel.receive_udp()) != packet:
            raise Trouble(f"{tunnel.name}: packet {number} came back as {back[:32].hex()}…")


def block(own, number):
    """16 KiB that no other tunnel and no other number has, not even in part."""
    return b"".join(hashlib.sha256(f"{own} {number} {n}".encode()).digest() for n in range(512))


# Tunnels of each kind.
EACH = 5
# Blocks or packets of each tunnel.
BLOCKS = 20
# Fits a DATAGRAM frame of a path with an MTU of 1280 bytes.
PACKET = 1100

run(many, "HTTP RELAY_PORT CERTS_DIR TCP_ECHO_PORT UDP_ECHO_PORT")
