"""Sleeps in one process and cancels from another, with the connection that this inherited.

Reads {"conninfo", "library"}: through that libpq with PQcancel, or without one through psycopg with cancel_safe. Writes
{"pid": backend, "protocol": version}, waits for a line, cancels, and writes {"state": SQLSTATE, "child": pid}."""

import ctypes
import json
import os
import sys

SLEEP = b"select pg_sleep(60)"


class Psycopg:
    def __init__(self, conninfo):
        import psycopg

        self.connection = psycopg.connect(conninfo)
        self.pid = self.connection.info.backend_pid
        self.protocol = self.connection.pgconn.full_protocol_version

    def send(self):
        self.connection.pgconn.send_query(SLEEP)

    def cancel(self):
        self.connection.cancel_safe()

    def state(self):
        from psycopg.pq import DiagnosticField

        return self.connection.pgconn.get_result().error_field(DiagnosticField.SQLSTATE).decode()


class Libpq:
    def __init__(self, library, conninfo):
        self.lib = lib = ctypes.CDLL(library)
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        for name, result, given in [
            ("PQconnectdb", pointer, [text]),
            ("PQstatus", number, [pointer]),
            ("PQerrorMessage", text, [pointer]),
            ("PQbackendPID", number, [pointer]),
            ("PQprotocolVersion", number, [pointer]),
            ("PQsendQuery", number, [pointer, text]),
            ("PQgetResult", pointer, [pointer]),
            ("PQresultErrorField", text, [pointer, number]),
            ("PQgetCancel", pointer, [pointer]),
            ("PQcancel", number, [pointer, text, number]),
        ]:
            function = getattr(lib, name)
            function.restype, function.argtypes = result, given
        self.connection = lib.PQconnectdb(conninfo.encode())
        assert lib.PQstatus(self.connection) == 0, lib.PQerrorMessage(self.connection).decode()
        self.pid = lib.PQbackendPID(self.connection)
        self.protocol = lib.PQprotocolVersion(self.connection) * 10000

    def send(self):
        assert self.lib.PQsendQuery(self.connection, SLEEP)

    def cancel(self):
        buffer = ctypes.create_string_buffer(256)
        assert self.lib.PQcancel(self.lib.PQgetCancel(self.connection), buffer, 256), buffer.value

    def state(self):
        result = self.lib.PQgetResult(self.connection)
        return self.lib.PQresultErrorField(result, ord("C")).decode()


told = json.loads(sys.stdin.readline())
client = Libpq(told["library"], told["conninfo"]) if told["library"] else Psycopg(told["conninfo"])
client.send()
print(json.dumps({"pid": client.pid, "protocol": client.protocol}), flush=True)
sys.stdin.readline()
child = os.fork()
if child == 0:
    try:
        client.cancel()
    except BaseException as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0, "the child failed"
print(json.dumps({"state": client.state(), "child": child}), flush=True)
