"""Reads results of many sizes as an asynchronous program does: waits for the socket, consumes, asks whether it has to wait.

Reads {"library", "conninfo", "from", "to", "step", "patience_s"}; reports {"tls", "read", "stuck": [first sizes without end]}."""

import ctypes
import json
import select
import sys
import time

STUCK_MAX = 3

told = json.loads(sys.stdin.readline())
lib = ctypes.CDLL(told["library"])
pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
for name, result, given in [
    ("PQconnectdb", pointer, [text]),
    ("PQstatus", number, [pointer]),
    ("PQerrorMessage", text, [pointer]),
    ("PQsocket", number, [pointer]),
    ("PQsslInUse", number, [pointer]),
    ("PQsetnonblocking", number, [pointer, number]),
    ("PQsendQuery", number, [pointer, text]),
    ("PQflush", number, [pointer]),
    ("PQconsumeInput", number, [pointer]),
    ("PQisBusy", number, [pointer]),
    ("PQgetResult", pointer, [pointer]),
    ("PQntuples", number, [pointer]),
    ("PQgetlength", number, [pointer, number, number]),
    ("PQclear", None, [pointer]),
    ("PQfinish", None, [pointer]),
]:
    function = getattr(lib, name)
    function.restype, function.argtypes = result, given


def connect():
    connection = lib.PQconnectdb(told["conninfo"].encode())
    assert lib.PQstatus(connection) == 0, lib.PQerrorMessage(connection).decode()
    assert lib.PQsetnonblocking(connection, 1) == 0
    return connection


def read(connection, size):
    """Whether the whole result came in time."""
    sql = f"select repeat('x', {size}) from generate_series(1, 20)"
    assert lib.PQsendQuery(connection, sql.encode())
    while lib.PQflush(connection):
        select.select([], [lib.PQsocket(connection)], [], 1)
    deadline, rows = time.monotonic() + told["patience_s"], 0
    while True:
        while lib.PQisBusy(connection):
            left = max(deadline - time.monotonic(), 0)
            if not select.select([lib.PQsocket(connection)], [], [], left)[0]:
                return False
            assert lib.PQconsumeInput(connection), lib.PQerrorMessage(connection).decode()
        result = lib.PQgetResult(connection)
        if not result:
            assert rows == 20, rows
            return True
        rows += lib.PQntuples(result)
        assert lib.PQgetlength(result, 0, 0) == size, lib.PQerrorMessage(connection).decode()
        lib.PQclear(result)


connection, stuck, count = connect(), [], 0
tls = bool(lib.PQsslInUse(connection))
for size in range(told["from"], told["to"] + 1, told["step"]):
    if read(connection, size):
        count += 1
        continue
    stuck.append(size)
    if len(stuck) == STUCK_MAX:
        break
    connection = connect()
print(json.dumps({"tls": tls, "read": count, "stuck": stuck}))
