"""A client of tus, in the few words that the tests of uploads need, over Flask's or any other client with the same calls."""

import base64
from urllib.parse import urlsplit

TUS = {"Tus-Resumable": "1.0.0", "Accept": "application/json"}
UPLOADS = "/workshop/uploads"


def named(name: str | bytes) -> dict[str, str]:
    raw = name.encode() if isinstance(name, str) else name
    return {"Upload-Metadata": f"filename {base64.b64encode(raw).decode()}"}


class Uploader:
    """Each call gives the answer, whatever it says."""

    def __init__(self, client):
        self.client = client

    def begin(self, name, length, **headers):
        given = TUS | named(name) | {"Upload-Length": str(length)} | headers
        return self.client.post(UPLOADS, headers=given)

    def address(self, name, length) -> str:
        answer = self.begin(name, length)
        assert answer.status_code == 201, answer.text
        return urlsplit(answer.headers["Location"]).path

    def send(self, address, offset, body, **headers):
        given = TUS | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"} | headers
        return self.client.patch(address, headers=given, data=body)

    def asked(self, address):
        return self.client.head(address, headers=TUS)

    def offset(self, address) -> int:
        return int(self.asked(address).headers["Upload-Offset"])

    def remove(self, address):
        return self.client.delete(address, headers=TUS)

    def whole(self, name, body) -> str:
        """Upload a file in one piece; returns the name of the upload."""
        address = self.address(name, len(body))
        assert self.send(address, 0, body).status_code == 204
        return address.rsplit("/", 1)[-1]
