"""Writes the verdict of the PyPI package qstash on every vector, at the vector's time, and tokens signed
by PyJWT.

Usage: judge.py DIRECTORY"""

import base64
import datetime
import hashlib
import json
import sys

import jwt
import jwt.api_jwt
from qstash import Receiver

directory = sys.argv[1]
with open(f"{directory}/vectors.json", encoding="utf-8") as file:
    vectors = json.load(file)


class Clock(datetime.datetime):
    """Replaces the clock of PyJWT, which can't be set."""

    seconds = 0

    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(cls.seconds, tz)


jwt.api_jwt.datetime = Clock


def verdict(vector):
    Clock.seconds = vector["time"]
    receiver = Receiver(vector["current_key"], vector["next_key"])
    # The SDK only takes text, so replace invalid UTF-8, as frameworks do.
    body = bytes.fromhex(vector["body"]).decode("utf-8", "replace")
    try:
        receiver.verify(
            signature=vector["token"],
            body=body,
            url=vector["url"],
            clock_tolerance=vector["tolerance"],
        )
    except Exception:
        return False
    return True


def signed(vector):
    digest = hashlib.sha256(bytes.fromhex(vector["body"])).digest()
    claims = {
        "aud": "",
        "body": base64.urlsafe_b64encode(digest).decode(),
        "exp": vector["time"] + 300,
        "iat": vector["time"],
        "iss": "Upstash",
        "jti": "jwt_pyjwt",
        "nbf": -62135596800,
        "sub": vector["url"],
    }
    return {**vector, "token": jwt.encode(claims, vector["current_key"], algorithm="HS256")}


def write(name, value):
    with open(f"{directory}/{name}.json", "w", encoding="utf-8") as file:
        json.dump(value, file)


write("python-verdicts", {vector["name"]: verdict(vector) for vector in vectors})
write("python-tokens", [signed(v) for v in vectors if v["name"].startswith("valid/body: ")])
