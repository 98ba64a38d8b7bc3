"""python3 new_tool.py PERSON NAME TITLE

Asks whether a name is free, creates a tool, and waits until it can be used.

The environment: API_URL, REALM, PORTAL, PORTAL_KID and PORTAL_KEY, the file of the portal's key.
"""

import os
import sys
from pathlib import Path

from chamberlain_client import Client

if len(sys.argv) != 4:
    sys.exit(__doc__)
person, name, title = sys.argv[1:]
client = Client(
    os.environ["API_URL"],
    realm=os.environ["REALM"],
    portal=os.environ["PORTAL"],
    kid=os.environ["PORTAL_KID"],
    key=Path(os.environ["PORTAL_KEY"]).read_bytes(),
)
asked = client.check("tool.create", requestedBy=person, name=name, title=title)
if asked.verdict == "refused":
    sys.exit(f"{asked.code}: {asked.sentence}")
request = client.sign("tool.create", requestedBy=person, name=name, title=title)
print("sending", request.id)  # a portal keeps the request, to send it again if it is interrupted
outcome = client.wait(request)
if not outcome.done:
    sys.exit(f"{outcome.code or 'not done yet'}: {outcome.sentence or request.id}")
print(name, "can be used")
