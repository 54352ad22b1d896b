"""Knocks as load balancers do, then logs in, all in one process.

Reads {"port", "times", "conninfo"}; reports {"answers": what SSLRequest was answered with, "login": the login's error or null}."""

import json
import socket
import struct
import sys

import psycopg

told = json.loads(sys.stdin.readline())
answers = set()
for number in range(told["times"]):
    plain = socket.create_connection(("127.0.0.1", told["port"]), 20)
    if number % 2:
        # At once and without good manners, as some do.
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    plain.close()
    asking = socket.create_connection(("127.0.0.1", told["port"]), 20)
    asking.sendall(struct.pack("!ii", 8, 80877103))
    answers.add(asking.recv(2).decode())
    asking.close()
error = None
try:
    psycopg.connect(told["conninfo"]).close()
except psycopg.Error as failure:
    error = str(failure)
print(json.dumps({"answers": sorted(answers), "login": error}))
