"""Fetches a URL path by HTTP/1.1 inside a CONNECT tunnel; prints the body's SHA-256."""

import hashlib

from masque import Trouble, relay, run


async def fetch(http, port, certs, target, path):
    async with relay(http, port, certs) as session:
        tunnel = await session.connect_tcp(target)
        tunnel.send(f"GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n".encode())
        head, body = await until_blank_line(tunnel)
        length = length_of(head)
        digest, count = hashlib.sha256(body), len(body)
        while (data := await tunnel.receive()) is not None:
            digest.update(data)
            count += len(data)
        if count != length:
            raise Trouble(f"a body of {count} bytes where {length} were promised")
        tunnel.send(end=True)
        print(digest.hexdigest())


async def until_blank_line(tunnel):
    """The response's head, and what came of its body together with it."""
    got = b""
    while b"\r\n\r\n" not in got:
        data = await tunnel.receive()
        if data is None:
            raise Trouble(f"the tunnel ended inside the response's head: {got!r}")
        got += data
    head, body = got.split(b"\r\n\r\n", 1)
    return head.decode().split("\r\n"), body


def length_of(head):
    if not head[0].startswith("HTTP/1.1 200"):
        raise Trouble(f"the web server answered {head[0]!r}")
    fields = dict(line.lower().split(": ", 1) for line in head[1:])
    return int(fields["content-length"])


run(fetch, "HTTP RELAY_PORT CERTS_DIR TARGET PATH")
