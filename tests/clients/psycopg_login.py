import threading

import psycopg

from common import QUERY, SLEEPS, arguments, conninfo, report, wait_for_sleep


def main():
    told = arguments()
    with psycopg.connect(conninfo(told), autocommit=True) as one:
        row = one.execute(QUERY).fetchone()
        states = []

        def sleep():
            try:
                one.execute("select pg_sleep(30)")
                states.append("00000")
            except psycopg.Error as error:
                states.append(error.sqlstate)

        # The old function sends the key in clear text, the new one as the session is encrypted.
        with psycopg.connect(conninfo(told), autocommit=True) as other:
            for cancel in (one.cancel, one.cancel_safe):
                thread = threading.Thread(target=sleep)
                thread.start()
                wait_for_sleep(lambda: other.execute(SLEEPS % row[2]).fetchone()[0])
                cancel()
                thread.join()
        assert states[0] == states[1], states
        after = one.execute("select 43").fetchone()[0]
    report(row, states[0], after)


main()
