"""One turn of scripts/bench-sdks, for the PyPI package qstash.

Usage: turn.py FILE
"""

import datetime
import json
import sys
import time

import jwt.api_jwt
from qstash import Receiver

with open(sys.argv[1], encoding="utf-8") as file:
    deliveries = json.load(file)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(deliveries[0]["time"], tz)


jwt.api_jwt.datetime = Clock

for delivery in deliveries:
    receiver = Receiver(delivery["current"], delivery["next"])

    def verify():
        receiver.verify(signature=delivery["token"], body=delivery["body"], url=delivery["url"])

    verify()
    count = 0
    start = time.perf_counter_ns()
    while time.perf_counter_ns() - start < 300_000_000:
        verify()
        count += 1
    print(len(delivery["body"]), round((time.perf_counter_ns() - start) / count))
