"""Asks a DNS server for an A record through CONNECT-UDP; prints the address."""

import ipaddress
import struct

from masque import Trouble, relay, run


async def resolve(http, port, certs, server_port, name):
    async with relay(http, port, certs) as session:
        tunnel = await session.connect_udp("127.0.0.1", server_port)
        query = question(name)
        tunnel.send_udp(query)
        print(address_in(await tunnel.receive_udp(), query))


def question(name):
    """A query for one A record, recursion desired (RFC 1035 section 4.1)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", ID, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", A, IN)


def address_in(answer, query):
    """The address of an answer that repeats our question and holds one compressed A record."""
    ident, flags, questions, answers = struct.unpack_from("!4H", answer)
    if (ident, flags & 0x800F, questions, answers) != (ID, 0x8000, 1, 1):
        raise Trouble(f"not an answer with one record: {answer.hex()}")
    if answer[12 : len(query)] != query[12:]:
        raise Trouble(f"an answer to another question: {answer.hex()}")
    record = struct.unpack_from("!HHHIH", answer, len(query))
    if (record[1], record[2], record[4]) != (A, IN, 4):
        raise Trouble(f"not an A record: {answer.hex()}")
    start = len(query) + struct.calcsize("!HHHIH")
    return ipaddress.IPv4Address(answer[start : start + 4])


ID = 0x4D51
A = 1
IN = 1

run(resolve, "HTTP RELAY_PORT CERTS_DIR DNS_PORT NAME")
