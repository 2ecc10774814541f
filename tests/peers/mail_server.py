"""A mail server (PyPI aiosmtpd) on loopback: tells its port on the first line, then each message it took as one JSON line.

    mail_server.py plain|starttls|tls [CERT KEY]

With TLS it demands the log-in hes / "s3cret". What it does is asked by the recipient's name: busy-N@… is refused with 451
the first N times, gone@… with 550, silent@… is taken and never answered. Ends when its input ends.
"""

import asyncio
import json
import ssl
import sys
from email import message_from_bytes, policy

from aiosmtpd.smtp import SMTP, AuthResult


class Handler:
    def __init__(self):
        self.refused = {}

    async def handle_RCPT(self, server, session, envelope, address, options):
        name = address.split("@")[0]
        if name == "gone":
            return "550 5.1.1 no such person"
        if name.startswith("busy-"):
            seen = self.refused.get(address, 0)
            if seen < int(name.removeprefix("busy-")):
                self.refused[address] = seen + 1
                return "451 4.3.0 try again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = message_from_bytes(envelope.content, policy=policy.default)
        told = {
            "to": envelope.rcpt_tos,
            "from": envelope.mail_from,
            "subject": mail["Subject"],
            "id": mail["Message-ID"],
            "auto": mail["Auto-Submitted"],
            "text": mail.get_content(),
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "user": getattr(session, "auth_data", None) and session.auth_data.login.decode(),
        }
        print(json.dumps(told), flush=True)
        if envelope.rcpt_tos[0].startswith("silent@"):
            await asyncio.sleep(3600)
        return "250 2.0.0 queued as 4711"


def authenticate(server, session, envelope, mechanism, data):
    good = data.login == b"hes" and data.password == b"s3cret"
    return AuthResult(success=good, handled=good, auth_data=data)


async def main():
    mode, *files = sys.argv[1:]
    tls = None
    if files:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*files)
    handler = Handler()
    options = {"enable_SMTPUTF8": True, "hostname": "mail.example"}
    if mode != "plain":
        options |= {"authenticator": authenticate, "auth_required": True}
    if mode == "starttls":
        options |= {"tls_context": tls, "require_starttls": True}
    if mode == "tls":
        options |= {"auth_require_tls": False}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, **options), "127.0.0.1", 0, ssl=tls if mode == "tls" else None
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


asyncio.run(main())
