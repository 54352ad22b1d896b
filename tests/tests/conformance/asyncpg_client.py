"""What an application on asyncpg does; prints everything it gets, which must not depend on the agent."""

import asyncio
import hashlib
import io

import asyncpg


async def main() -> None:
    connection = await asyncpg.connect(ssl="prefer", timeout=20)
    connection.add_log_listener(lambda _, message: print("notice", message.message))
    await rows(connection)
    await errors(connection)
    await cursors(connection)
    await copy(connection)
    await large(connection)
    await cancel(connection)
    await notifications(connection)
    await connection.close()
    async with asyncpg.create_pool(min_size=3, max_size=6) as pool:
        answers = await asyncio.gather(*(pool.fetchval("select $1::int + 1", n) for n in range(100)))
        print(sum(answers))
    print("done")


async def rows(connection: asyncpg.Connection) -> None:
    await connection.execute("create temp table driver_table(a int, b text, c bytea, d numeric[])")
    values = [(n, f"text {n} \u00e9", bytes([n]), [n, None]) for n in range(100)]
    await connection.executemany("insert into driver_table values ($1, $2, $3, $4)", values)
    for row in await connection.fetch("select * from driver_table where a < $1 order by a", 5):
        print(tuple(row))
    statement = await connection.prepare("select count(*) from driver_table where a > $1")
    print([await statement.fetchval(n) for n in range(10)])
    print(statement.get_statusmsg(), [kind.name for kind in statement.get_parameters()])


async def errors(connection: asyncpg.Connection) -> None:
    for statement in ("selec 1", "select 1/0", "select * from nowhere"):
        try:
            await connection.fetch(statement)
        except asyncpg.PostgresError as error:
            print(error.sqlstate, error.message)
    try:
        async with connection.transaction():
            await connection.execute("insert into driver_table values (1000)")
            await connection.execute("select 1/0")
    except asyncpg.PostgresError as error:
        print("rolled back", error.sqlstate)
    print(await connection.fetchval("select count(*) from driver_table where a = 1000"))
    await connection.execute("do $$begin raise notice 'noticed'; end$$")


async def cursors(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        seen = []
        async for row in connection.cursor("select a from driver_table order by a", prefetch=7):
            seen.append(row["a"])
        print(seen[:20], len(seen))


async def copy(connection: asyncpg.Connection) -> None:
    records = ((n, "x" * (n % 50)) for n in range(20000))
    print(await connection.copy_records_to_table("driver_table", records=records, columns=["a", "b"]))
    out = io.BytesIO()
    query = "select a, b from driver_table order by a, b"
    print(await connection.copy_from_query(query, output=out))
    print(hashlib.sha256(out.getvalue()).hexdigest())
    try:
        bad = io.BytesIO(b"no number\n")
        await connection.copy_to_table("driver_table", source=bad, columns=["a"])
    except asyncpg.PostgresError as error:
        print("copy", error.sqlstate)


async def large(connection: asyncpg.Connection) -> None:
    value = "large " * 1_000_000
    row = await connection.fetchrow("select md5($1), $1", value)
    print(row[0], len(row[1]))


async def cancel(connection: asyncpg.Connection) -> None:
    try:
        await connection.execute("select pg_sleep(100)", timeout=1.0)
    except asyncio.TimeoutError:
        print("timed out")
    print(await connection.fetchval("select 'alive'"))


async def notifications(connection: asyncpg.Connection) -> None:
    heard = asyncio.get_running_loop().create_future()
    await connection.add_listener("news", lambda _c, _pid, channel, payload: heard.set_result((channel, payload)))
    other = await asyncpg.connect(timeout=20)
    await other.execute("notify news, 'extra'")
    print(await asyncio.wait_for(heard, 10))
    await other.close()


asyncio.run(main())
