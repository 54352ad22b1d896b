"""What an application on psycopg 3 does; prints everything it gets, which must not depend on the agent."""

import hashlib
import logging
import threading

import psycopg
from psycopg import sql


def main() -> None:
    # Its warnings hold addresses of objects.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    with psycopg.connect(autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: print("notice", notice.message_primary))
        rows(connection)
        errors(connection)
        pipeline(connection)
        copy(connection)
        large(connection)
        cancel(connection)
        notifications(connection)
    print("done")


def rows(connection: psycopg.Connection) -> None:
    connection.execute("create temp table driver_table(a int, b text, c bytea, d jsonb)")
    with connection.cursor() as cursor:
        values = [(n, f"text {n} \u00e9", bytes([n]), '{"n": 1}') for n in range(100)]
        cursor.executemany("insert into driver_table values (%s, %s, %s, %s)", values)
        print("inserted", cursor.rowcount)
        for binary in (False, True):
            cursor.execute("select * from driver_table where a < %s order by a", [5], binary=binary)
            print(cursor.fetchall(), cursor.statusmessage)
        for n in range(8):  # prepared on the server after the fifth time
            cursor.execute("select count(*) from driver_table where a > %s", [n])
            print(cursor.fetchone())
    with connection.transaction(), connection.cursor("portal") as cursor:
        cursor.itersize = 7
        cursor.execute(sql.SQL("select a from driver_table order by a"))
        print([row[0] for row in cursor][:20])


def errors(connection: psycopg.Connection) -> None:
    for statement in ("selec 1", "select 1/0", "select * from nowhere"):
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            print(error.sqlstate, error.diag.message_primary)
    try:
        with connection.transaction():
            connection.execute("insert into driver_table values (1000)")
            connection.execute("select 1/0")
    except psycopg.Error as error:
        print("rolled back", error.sqlstate)
    print(connection.execute("select count(*) from driver_table where a = 1000").fetchone())
    connection.execute("do $$begin raise notice 'noticed'; end$$")


def pipeline(connection: psycopg.Connection) -> None:
    with connection.pipeline() as pipe:
        cursors = [connection.execute("select %s::int * 2", [n]) for n in range(300)]
        pipe.sync()
        print(sum(cursor.fetchone()[0] for cursor in cursors))
    try:
        with connection.pipeline():
            first = connection.execute("select 1")
            connection.execute("select 1/0")
            connection.execute("select 3")
    except psycopg.Error as error:
        print("pipeline", error.sqlstate, first.fetchone())


def copy(connection: psycopg.Connection) -> None:
    with connection.cursor() as cursor:
        with cursor.copy("copy driver_table(a, b) from stdin") as into:
            for n in range(20000):
                into.write_row((n, "x" * (n % 50)))
        print("copied", cursor.rowcount)
        digest = hashlib.sha256()
        with cursor.copy("copy (select a, b from driver_table order by a, b) to stdout") as out:
            for data in out:
                digest.update(data)
        print(digest.hexdigest())
        try:
            with cursor.copy("copy driver_table(a, b) from stdin") as into:
                into.write("no number\n")
        except psycopg.Error as error:
            print("copy", error.sqlstate)


def large(connection: psycopg.Connection) -> None:
    value = "large " * 1_000_000
    row = connection.execute("select md5(%s), %s", [value, value]).fetchone()
    print(row[0], len(row[1]))


def cancel(connection: psycopg.Connection) -> None:
    stop = threading.Event()

    def again() -> None:
        # One that comes before the statement finds nothing to cancel.
        while not stop.wait(0.1):
            connection.cancel_safe(timeout=10)

    thread = threading.Thread(target=again)
    thread.start()
    try:
        connection.execute("select pg_sleep(100)")
    except psycopg.errors.QueryCanceled as error:
        print("cancelled", error.sqlstate)
    finally:
        stop.set()
        thread.join()
    # One that was under way may hit the next statement instead.
    for _ in range(10):
        try:
            connection.execute("select 1")
            break
        except psycopg.errors.QueryCanceled:
            pass


def notifications(connection: psycopg.Connection) -> None:
    connection.execute("listen news")
    with psycopg.connect(autocommit=True) as other:
        other.execute("notify news, 'extra'")
    for notify in connection.notifies(timeout=10, stop_after=1):
        print(notify.channel, notify.payload)


main()
