"""Writes the verdict on every vector of a verifier such as one writes by hand after QStash's guide for AWS
Lambda: HMAC over the token, the claims, the body's hash, and nothing else.

Usage: by_hand.py DIRECTORY"""

import base64
import hashlib
import hmac
import json
import sys


def verify(token, key, url, body, now):
    header, claims, signature = token.split(".")
    mac = hmac.new(key.encode(), f"{header}.{claims}".encode(), hashlib.sha256).digest()
    if base64.urlsafe_b64encode(mac).decode().rstrip("=") != signature.rstrip("="):
        raise ValueError("signature")
    claims = json.loads(base64.urlsafe_b64decode(claims + "=="))
    if claims["iss"] != "Upstash":
        raise ValueError("iss")
    if claims["sub"].rstrip("/") != url.rstrip("/"):
        raise ValueError("sub")
    if now > claims["exp"]:
        raise ValueError("exp")
    if now < claims["nbf"]:
        raise ValueError("nbf")
    digest = base64.urlsafe_b64encode(hashlib.sha256(body.encode()).digest()).decode()
    if claims["body"].rstrip("=") != digest.rstrip("="):
        raise ValueError("body")


def verdict(vector):
    body = bytes.fromhex(vector["body"])
    try:
        event_body = body.decode()
    except UnicodeDecodeError:
        # Lambda's form of a binary body, whose flag is easily overlooked.
        event_body = base64.b64encode(body).decode()
    for key in (vector["current_key"], vector["next_key"]):
        try:
            verify(vector["token"], key, vector["url"], event_body, vector["time"])
            return True
        except Exception:
            pass
    return False


directory = sys.argv[1]
with open(f"{directory}/vectors.json", encoding="utf-8") as file:
    vectors = json.load(file)
with open(f"{directory}/by-hand-verdicts.json", "w", encoding="utf-8") as file:
    json.dump({vector["name"]: verdict(vector) for vector in vectors}, file)
