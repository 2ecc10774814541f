"""A message centre on loopback, over the PDUs of PyPI smpplib (other people's reading of SMPP 3.4): tells its port, then
each message it took, put together of its segments, as one JSON line.

    message_centre.py

Log-in: hes / s3cret. +4400001 is refused for ever (0x0B), +4400002 once with "throttled" (0x58), +4400003 is taken and
never answered. Before the answer to each first submit it asks whether we are there. Ends when its input ends.
"""

import json
import socket
import struct
import sys
import threading

from smpplib import command, smpp

GSM = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = {0x14: "^", 0x28: "{", 0x29: "}", 0x2F: "\\", 0x3C: "[", 0x3D: "~", 0x3E: "]", 0x40: "|", 0x65: "€"}
throttled = set()


def text_of(coding, octets):
    if coding == 8:
        return octets.decode("utf-16-be")
    out, escaped = "", False
    for octet in octets:
        if octet == 0x1B:
            escaped = True
        else:
            out += EXTENSION[octet] if escaped else GSM[octet]
            escaped = False
    return out


def read(line):
    head = line.recv(4, socket.MSG_WAITALL)
    if len(head) < 4:
        return None
    body = line.recv(struct.unpack(">L", head)[0] - 4, socket.MSG_WAITALL)
    return smpp.parse_pdu(head + body, client=Client())


class Client:
    sequence = 0

    def next_sequence(self):
        Client.sequence += 1
        return Client.sequence


def answer(line, pdu, name, status=0, **fields):
    made = smpp.make_pdu(name, client=Client(), **fields)
    made.sequence = pdu.sequence
    made.status = status
    line.sendall(made.generate())


def status_of(number):
    if number == "4400001":
        return 0x0B
    if number == "4400002" and number not in throttled:
        throttled.add(number)
        return 0x58
    return 0


def serve(line):
    bound, parts = False, {}
    while (pdu := read(line)) is not None:
        if pdu.command == "bind_transmitter":
            bound = (pdu.system_id, pdu.password) == (b"hes", b"s3cret")
            answer(line, pdu, "bind_transmitter_resp", 0 if bound else 0x0E, system_id="centre")
        elif pdu.command == "submit_sm":
            number = pdu.destination_addr.decode()
            octets = pdu.short_message or b""
            total, index, header = 1, 1, 0
            if pdu.esm_class & 0x40:
                header = octets[0] + 1
                total, index = octets[4], octets[5]
            parts[index] = octets[header:]
            if index == 1:
                line.sendall(smpp.make_pdu("enquire_link", client=Client()).generate())
            status = status_of(number)
            if bound and status == 0 and len(parts) == total:
                whole = b"".join(parts[index] for index in sorted(parts))
                told = {
                    "to": number,
                    "from": pdu.source_addr.decode(),
                    "ton": [pdu.source_addr_ton, pdu.dest_addr_ton],
                    "text": text_of(pdu.data_coding, whole),
                    "segments": total,
                }
                print(json.dumps(told), flush=True)
                parts = {}
            if number != "4400003":
                answer(line, pdu, "submit_sm_resp", status if bound else 0x04, message_id="id-4711")
        elif pdu.command == "unbind":
            answer(line, pdu, "unbind_resp")
            return


def listen(listener):
    while True:
        line, _ = listener.accept()
        threading.Thread(target=serve, args=(line,), daemon=True).start()


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
threading.Thread(target=listen, args=(listener,), daemon=True).start()
sys.stdin.read()
