"""Connects through one libpq, many times in one process.

Usage: libpq_cells.py LIBRARY < cells > outcomes

Reads one JSON object a line, {"id": N, "conninfo": TEXT}, and writes one a line for each:

  id, ms     as given; how long it took
  status     "ok" or "refused"
  error      libpq's message with SQLSTATEs (verbosity "verbose"), empty when ok
  tls        whether libpq speaks TLS
  protocol, cipher, alpn   of TLS, when the library tells them
  server_tls what pg_stat_ssl says of the session's own backend, true or false
  user       current_user
  pid_ok     whether PQbackendPID is pg_backend_pid()

PG* variables of the environment are ignored.
"""

import ctypes
import json
import os
import select
import sys
import time

CONNECTION_OK, CONNECTION_BAD = 0, 1
POLLING_FAILED, POLLING_READING, POLLING_WRITING, POLLING_OK = 0, 1, 2, 3
PQERRORS_VERBOSE = 2
PGRES_TUPLES_OK = 2
PATIENCE_S = 20

QUERY = (
    b"select coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false),"
    b" current_user, pg_backend_pid()"
)


def load(path):
    lib = ctypes.CDLL(path)
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in [
        ("PQconnectStart", pointer, [text]),
        ("PQconnectPoll", number, [pointer]),
        ("PQstatus", number, [pointer]),
        ("PQsocket", number, [pointer]),
        ("PQsetErrorVerbosity", number, [pointer, number]),
        ("PQerrorMessage", text, [pointer]),
        ("PQfinish", None, [pointer]),
        ("PQsslInUse", number, [pointer]),
        ("PQsslAttribute", text, [pointer, text]),
        ("PQbackendPID", number, [pointer]),
        ("PQexec", pointer, [pointer, text]),
        ("PQresultStatus", number, [pointer]),
        ("PQgetvalue", text, [pointer, number, number]),
        ("PQclear", None, [pointer]),
    ]:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def connect(lib, connection):
    """Drives the connection to its end: None, or what went wrong here."""
    wanted, deadline = POLLING_WRITING, time.monotonic() + PATIENCE_S
    while True:
        socket = lib.PQsocket(connection)
        if lib.PQstatus(connection) == CONNECTION_BAD or socket < 0:
            return None
        left = deadline - time.monotonic()
        reading, writing = wanted == POLLING_READING, wanted == POLLING_WRITING
        ready = select.select([socket] * reading, [socket] * writing, [], max(left, 0))
        if not any(ready):
            return f"no answer within {PATIENCE_S} s"
        wanted = lib.PQconnectPoll(connection)
        if wanted in (POLLING_FAILED, POLLING_OK):
            return None


def attribute(lib, connection, name):
    value = lib.PQsslAttribute(connection, name)
    return value.decode() if value else None


def cell(lib, conninfo):
    connection = lib.PQconnectStart(conninfo.encode())
    try:
        # Before the first answer arrives, so that errors of the handshake carry their SQLSTATE.
        lib.PQsetErrorVerbosity(connection, PQERRORS_VERBOSE)
        stuck = connect(lib, connection)
        if stuck or lib.PQstatus(connection) != CONNECTION_OK:
            message = lib.PQerrorMessage(connection).decode(errors="replace")
            return {"status": "refused", "error": stuck or message}
        outcome = {
            "status": "ok",
            "error": "",
            "tls": bool(lib.PQsslInUse(connection)),
            "protocol": attribute(lib, connection, b"protocol"),
            "cipher": attribute(lib, connection, b"cipher"),
            "alpn": attribute(lib, connection, b"alpn"),
        }
        result = lib.PQexec(connection, QUERY)
        if lib.PQresultStatus(result) == PGRES_TUPLES_OK:
            values = [lib.PQgetvalue(result, 0, column).decode() for column in range(3)]
            outcome["server_tls"] = values[0] == "t"
            outcome["user"] = values[1]
            outcome["pid_ok"] = int(values[2]) == lib.PQbackendPID(connection)
        else:
            message = lib.PQerrorMessage(connection).decode(errors="replace")
            outcome = {"status": "refused", "error": "query: " + message}
        lib.PQclear(result)
        return outcome
    finally:
        lib.PQfinish(connection)


def main():
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    lib = load(sys.argv[1])
    for line in sys.stdin:
        task = json.loads(line)
        start = time.monotonic()
        outcome = cell(lib, task["conninfo"])
        outcome["id"] = task["id"]
        outcome["ms"] = round((time.monotonic() - start) * 1000, 1)
        print(json.dumps(outcome), flush=True)


main()
