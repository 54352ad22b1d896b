"""Through libpq itself: cancels with PQcancel, and with PQcancelBlocking where the library has it."""

import ctypes

from common import QUERY, SLEEPS, arguments, conninfo, report, wait_for_sleep

PG_DIAG_SQLSTATE = ord("C")


def declare(lib):
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, given in [
        ("PQconnectdb", pointer, [text]),
        ("PQstatus", number, [pointer]),
        ("PQerrorMessage", text, [pointer]),
        ("PQexec", pointer, [pointer, text]),
        ("PQsendQuery", number, [pointer, text]),
        ("PQgetResult", pointer, [pointer]),
        ("PQgetvalue", text, [pointer, number, number]),
        ("PQresultErrorField", text, [pointer, number]),
        ("PQgetCancel", pointer, [pointer]),
        ("PQcancel", number, [pointer, text, number]),
        ("PQfreeCancel", None, [pointer]),
        ("PQcancelCreate", pointer, [pointer]),
        ("PQcancelBlocking", number, [pointer]),
        ("PQcancelFinish", None, [pointer]),
        ("PQfinish", None, [pointer]),
    ]:
        if hasattr(lib, name):
            function = getattr(lib, name)
            function.restype, function.argtypes = result, given
    return lib


def values(lib, connection, sql):
    result = lib.PQexec(connection, sql.encode())
    return [(lib.PQgetvalue(result, 0, column) or b"").decode() for column in range(4)]


def cancel_old(lib, connection):
    handle, buffer = lib.PQgetCancel(connection), ctypes.create_string_buffer(256)
    assert lib.PQcancel(handle, buffer, 256), buffer.value
    lib.PQfreeCancel(handle)


def cancel_new(lib, connection):
    handle = lib.PQcancelCreate(connection)
    assert lib.PQcancelBlocking(handle)
    lib.PQcancelFinish(handle)


def main():
    told = arguments()
    lib = declare(ctypes.CDLL(told["library"]))
    connections = [lib.PQconnectdb(conninfo(told).encode()) for _ in range(2)]
    for connection in connections:
        assert lib.PQstatus(connection) == 0, lib.PQerrorMessage(connection).decode()
    one, other = connections
    row = values(lib, one, QUERY)
    states = []
    for cancel in [cancel_old, cancel_new][: 1 + hasattr(lib, "PQcancelCreate")]:
        assert lib.PQsendQuery(one, b"select pg_sleep(30)")
        wait_for_sleep(lambda: int(values(lib, other, SLEEPS % int(row[2]))[0]))
        cancel(lib, one)
        states.append(lib.PQresultErrorField(lib.PQgetResult(one), PG_DIAG_SQLSTATE).decode())
        assert lib.PQgetResult(one) is None
    assert len(set(states)) == 1, states
    after = int(values(lib, one, "select 43")[0])
    for connection in connections:
        lib.PQfinish(connection)
    report((int(row[0]), row[1], row[2], row[3] == "t"), states[0], after)


main()
