// What the clients in JavaScript share.

const told = JSON.parse(require("node:fs").readFileSync(0, "utf8"));

for (const name of Object.keys(process.env)) {
  if (name.startsWith("PG")) delete process.env[name];
}

const QUERY =
  "select 6 * 7 as answer, current_user::text as name, pg_backend_pid() as pid," +
  " (select ssl from pg_stat_ssl where pid = pg_backend_pid()) as server_tls";

const SLEEPS = (pid) =>
  `select count(*)::int from pg_stat_activity where pid = ${pid} and wait_event = 'PgSleep'`;

const PATIENCE_MS = 20000;

async function waitForSleep(count) {
  const deadline = Date.now() + PATIENCE_MS;
  while ((await count()) === 0) {
    if (Date.now() > deadline) throw new Error("the statement to cancel never began");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function report(row, cancel, after) {
  const { answer, name: user, server_tls } = row;
  console.log(JSON.stringify({ answer, user, cancel, after, server_tls }));
}

module.exports = { QUERY, SLEEPS, told, report, waitForSleep };
