"""Connects with multi-host strings through one libpq.

Reads {"library", "cases": [[ports, target_session_attrs]]}; reports for each what it came to: the port, or the last error."""

import ctypes
import json
import sys

told = json.loads(sys.stdin.readline())
lib = ctypes.CDLL(told["library"])
for name, result in [
    ("PQconnectdb", ctypes.c_void_p),
    ("PQstatus", ctypes.c_int),
    ("PQport", ctypes.c_char_p),
    ("PQerrorMessage", ctypes.c_char_p),
    ("PQfinish", None),
]:
    getattr(lib, name).restype = result
    getattr(lib, name).argtypes = [ctypes.c_char_p if name == "PQconnectdb" else ctypes.c_void_p]
ends = []
for ports, wanted in told["cases"]:
    hosts = ",".join("127.0.0.1" for _ in ports)
    conninfo = (
        f"host={hosts} port={','.join(map(str, ports))} target_session_attrs={wanted} user=postgres"
        " dbname=postgres sslmode=prefer gssencmode=disable connect_timeout=20"
    )
    connection = lib.PQconnectdb(conninfo.encode())
    good = lib.PQstatus(connection) == 0
    error = lib.PQerrorMessage(connection).decode().strip().splitlines()
    ends.append(int(lib.PQport(connection)) if good else error[-1])
    lib.PQfinish(connection)
print(json.dumps(ends))
