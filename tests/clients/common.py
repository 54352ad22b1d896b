"""What the Python clients share."""

import json
import os
import sys
import time

PATIENCE_S = 20

QUERY = (
    "select 6 * 7 as answer, current_user::text as name, pg_backend_pid() as pid,"
    " (select ssl from pg_stat_ssl where pid = pg_backend_pid()) as server_tls"
)

# Sessions of one's own role are visible to everyone.
SLEEPS = "select count(*) from pg_stat_activity where pid = %d and wait_event = 'PgSleep'"


def arguments():
    # No setting and no file of the user who runs the tests.
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    os.environ["HOME"] = "/nonexistent"
    return json.loads(sys.stdin.readline())


def conninfo(told):
    text = (
        "host={name} hostaddr={address} port={port} user={user} dbname={database}"
        " gssencmode=disable connect_timeout=20"
    ).format(**told)
    tls = f" sslmode=verify-full sslrootcert={told['roots']}" if told["roots"] else " sslmode=disable"
    password = f" password={told['password']}" if told["password"] else ""
    return text + tls + password


def wait_for_sleep(count):
    """`count` says how many sessions of that process sleep."""
    deadline = time.monotonic() + PATIENCE_S
    while count() == 0:
        if time.monotonic() > deadline:
            raise TimeoutError("the statement to cancel never began")
        time.sleep(0.005)


def report(row, cancel, after):
    answer, user, _, server_tls = row
    told = {"answer": answer, "user": user, "cancel": cancel, "after": after, "server_tls": server_tls}
    print(json.dumps(told))
