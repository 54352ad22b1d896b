import asyncio
import ssl

import asyncpg

from common import PATIENCE_S, QUERY, SLEEPS, arguments, report


async def connect(told):
    context = ssl.create_default_context(cafile=told["roots"]) if told["roots"] else False
    return await asyncpg.connect(
        host=told["address"],
        port=told["port"],
        user=told["user"],
        password=told["password"],
        database=told["database"],
        ssl=context,
        timeout=PATIENCE_S,
    )


async def main():
    told = arguments()
    one, other = await connect(told), await connect(told)
    row = await one.fetchrow(QUERY)
    sleeping = asyncio.ensure_future(one.execute("select pg_sleep(30)"))
    while await other.fetchval(SLEEPS % row["pid"]) == 0:
        await asyncio.sleep(0.005)
    sleeping.cancel()
    try:
        await sleeping
    except asyncio.CancelledError:
        pass
    # The next statement waits until the cancelled one has ended, which takes 30 s if the server was not told.
    after = await asyncio.wait_for(one.fetchval("select 43"), PATIENCE_S)
    await one.close()
    await other.close()
    report(tuple(row), "stopped", after)


asyncio.run(main())
