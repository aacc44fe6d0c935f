#!/usr/bin/env python3
"""Receives messages of a subscription of Sluice, handles them and acknowledges them.

    SLUICE_WORK=http://127.0.0.1:8082 SLUICE_TOKEN=... SLUICE_SUBSCRIPTION=stock python3 listener.py

It may be killed at any time, and run as often as one likes: a message that was not acknowledged when its lease ends
goes to another listener.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

BASE = os.environ["SLUICE_WORK"] + "/work/v1/subscriptions/" + os.environ["SLUICE_SUBSCRIPTION"]


def handle(message):
    """Does the work. The same message may come again: what was done for an id must not be done twice."""
    print("handled", message["id"], json.dumps(message["body"]), flush=True)


def call(what, body):
    """Posts a body and returns the answer."""
    request = urllib.request.Request(
        BASE + "/" + what,
        data=json.dumps(body).encode(),
        headers={"Authorization": "Bearer " + os.environ["SLUICE_TOKEN"], "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def settle(how, leases):
    """Says what became of messages. Those of a lease that has ended are handled again."""
    if leases:
        fenced = call(how, {"leases": leases})["fenced"]
        if fenced:
            print("too late for", len(fenced), "messages: handle fewer at once", file=sys.stderr)


def work():
    """Receives some messages, waiting for the first, and says of each what became of it."""
    done, failed = [], []
    for message in call("receive", {"max": 10, "wait": "20s"})["messages"]:
        try:
            handle(message)
            done.append(message["lease"])
        except Exception as error:  # whatever it is, another attempt is made
            print(message["id"], error, file=sys.stderr)
            failed.append(message["lease"])
    settle("ack", done)
    settle("nack", failed)


while True:
    try:
        work()
    except urllib.error.HTTPError as error:
        print(error, error.read(1000).decode(errors="replace"), file=sys.stderr)
        time.sleep(int(error.headers.get("Retry-After", 1)))
    except OSError as error:
        print(error, file=sys.stderr)
        time.sleep(1)
    except KeyboardInterrupt:
        break
