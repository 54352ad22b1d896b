"""Logs in as one process: first some times with a wrong password, then at each line of standard input.

Reads {"address", "port", "user", "other", "password", "wrong", "failures"}; writes a line [SQLSTATE or "ok", seconds] for each
login. Lines behind the first are "user", "other" (the right password of that role) and the end of the input ends it."""

import json
import sys
import time

import psycopg


def login(told, user, password):
    conninfo = f"host={told['address']} port={told['port']} user={user} dbname=postgres"
    conninfo += f" password={password} sslmode=disable gssencmode=disable connect_timeout=20"
    started = time.monotonic()
    try:
        psycopg.connect(conninfo).close()
        state = "ok"
    except psycopg.OperationalError as error:
        text = str(error)
        states = {"password authentication failed": "28P01", "too many failed logins": "28000"}
        state = next((state for words, state in states.items() if words in text), text)
    print(json.dumps([state, time.monotonic() - started]), flush=True)


told = json.loads(sys.stdin.readline())
for _ in range(told["failures"]):
    login(told, told["user"], told["wrong"])
for line in sys.stdin:
    login(told, told[line.strip()], told["password"])
