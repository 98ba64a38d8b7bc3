"""python3 -m chamberlain_client.sign KIND FIELD=VALUE… --url URL --realm REALM --admin NAME --key FILE [--kid KID]

Signs an admin's answer with the admin's own key, on the admin's own machine, and sends it to the API. No portal sees
the key. The program says in words what will be signed, and asks first. It signs only answers:

    access.grant person=alice [reason=…]        request.approve request=ID [sentBy=PORTAL]
    access.refuse person=alice reason=…         request.reject request=ID reason=… [sentBy=PORTAL]

Instead of --url, --realm, --admin, --key and --kid, you may set CHAMBERLAIN_URL, CHAMBERLAIN_REALM, CHAMBERLAIN_ADMIN,
CHAMBERLAIN_KEY and CHAMBERLAIN_KID. The key is Ed25519, in PEM (PKCS #8) or as ssh-keygen writes it; if it has a
passphrase, the program asks for it. The kid is the fingerprint of the key, unless the realm's configuration lists the
key: then give the kid from there. Exit code: 0 if the answer was accepted, 1 if not, 2 for a wrong command.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import sys
from getpass import getpass
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from chamberlain_client import Client, Problem, Unreachable

SETTINGS = ("url", "realm", "admin", "key")
#: Each answer in words, its required fields, and the other ones.
ANSWERS = {
    "access.grant": ("GIVE {person} access to the realm {realm}", {"person"}, {"reason"}),
    "access.refuse": ("REFUSE {person} access to the realm {realm}", {"person", "reason"}, set()),
    "request.approve": ("APPROVE the request {request}", {"request"}, {"sentBy"}),
    "request.reject": ("REJECT the request {request}", {"request", "reason"}, {"sentBy"}),
}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="chamberlain-sign", usage=__doc__)
    parser.add_argument("kind")
    parser.add_argument("fields", nargs="*")
    for name in SETTINGS:
        given = os.environ.get(f"CHAMBERLAIN_{name.upper()}")
        parser.add_argument(f"--{name}", default=given, required=given is None)
    parser.add_argument("--kid", default=os.environ.get("CHAMBERLAIN_KID"))
    options = parser.parse_intermixed_args(words)
    fields = dict(field.partition("=")[::2] for field in options.fields)
    fault = _fault(options.kind, fields)
    if fault:
        print(f"chamberlain-sign: {fault}", file=sys.stderr)
        return 2
    try:
        key = _read_key(Path(options.key))
        client = Client(
            options.url,
            realm=options.realm,
            portal=f"admin.{options.admin}",
            kid=options.kid or _fingerprint(key),
            key=key,
        )
        for line in _in_words(client, options, fields):
            print(line)
        if input("Sign and send it? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing was signed.")
            return 1
        request = client.sign(options.kind, requestedBy=options.admin, **fields)
        outcome = client.wait(request, seconds=60)
    except (EOFError, KeyboardInterrupt):
        print("\nNothing more was done.")
        return 1
    except (OSError, ValueError, Problem, Unreachable) as error:
        print(f"chamberlain-sign: {_plain(str(error))}", file=sys.stderr)
        return 1
    if outcome.verdict is None:
        print("There is no verdict after a minute. It may still come.")
        print("Run the same command again: if the first answer has counted by then, the second one is refused.")
    elif outcome.verdict == "refused":
        print(f"Refused: {_plain(outcome.sentence or '')} ({outcome.code})")
    else:
        print("Accepted." if outcome.done else f"Accepted; not done yet. {_plain(outcome.sentence or '')}")
    return 0 if outcome.verdict == "accepted" else 1


def _fault(kind: str, fields: dict[str, str]) -> str | None:
    """What is wrong with the command, which may have come from a page that somebody else has made."""
    if kind not in ANSWERS:
        return f"it signs no {_plain(kind)}, only {', '.join(ANSWERS)}"
    _, required, others = ANSWERS[kind]
    missing = sorted(required - {name for name, value in fields.items() if value})
    unknown = sorted(fields.keys() - required - others)
    if missing:
        return f"{kind} needs {', '.join(f'{name}=…' for name in missing)}"
    if fields.get("request", "").isdecimal():
        return "request must be the id of the request (a UUID), and not its number"
    return f"{kind} has no field {_plain(unknown[0])}" if unknown else None


def _in_words(client: Client, options: argparse.Namespace, fields: dict[str, str]) -> list[str]:
    """What will be signed; and what is approved or rejected, which the API says, and no portal."""
    plain = {name: _plain(value) for name, value in fields.items()}
    sentence = ANSWERS[options.kind][0].format(**plain, realm=_plain(options.realm))
    lines = [f"As {_plain(options.admin)}, you will sign:", "", f"  {sentence}"]
    if "reason" in plain:
        lines.append(f"  because: {plain['reason']}")
    # from the API, and not from the page that the command has come from
    if "request" in fields:
        found = client.read(f"/v1/requests/{UUID(fields['request'])}", portal=fields.get("sentBy"))
        shown = ("portal", "requestedBy", "kind", "account", "accounts", "verdict", "approval")
    else:
        found = client.person(fields["person"])
        shown = ("name", "displayName", "email", "state")
    if found is None:
        raise ValueError(f"there is no person {plain['person']}")
    lines += [f"  {name}: {_plain(json.dumps(found[name], ensure_ascii=False))}" for name in shown if found.get(name)]
    return [*lines, ""]


def _read_key(file: Path) -> bytes:
    """The key in PEM, without its passphrase."""
    data = file.read_bytes()
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else load_pem_private_key
    try:
        key = load(data, password=None)
    except (TypeError, ValueError):  # it has a passphrase
        key = load(data, password=getpass(f"Passphrase of {file}: ").encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _fingerprint(key: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    line = load_pem_private_key(key, password=None).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _plain(text: str) -> str:
    """Without characters that could change what a terminal shows."""
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


if __name__ == "__main__":
    sys.exit(main())
