//! The table of a `database` anchor.

/// The role that inserts, where nobody says otherwise.
pub const SQL_ROLE: &str = "pgward_anchor";

/// What to run, once, in the database of the anchor, as somebody who may make roles and schemas.
///
/// The table belongs to a role that nobody can log in as. The agent's role can add rows and read its own;
/// nobody but the owner and superusers of that server can change or remove one, and even they must first
/// take a trigger away.
///
/// `role` is quoted wherever it stands; it must have no control characters and no `$`.
pub fn anchor_sql(role: &str) -> String {
    let text = role.replace('\'', "''");
    let name = format!("\"{}\"", role.replace('"', "\"\""));
    format!(
        "\
-- Table for checkpoints of pgward. Run it in the database that `[[audit.anchor]]` names:
--   pgward audit anchor-sql | psql -v ON_ERROR_STOP=1 -d DATABASE
-- Then give the role a password with `\\password {role}`, or let it log in with a certificate.
BEGIN;
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pgward_anchor_owner') THEN
    CREATE ROLE pgward_anchor_owner NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{text}') THEN
    CREATE ROLE {name} LOGIN CONNECTION LIMIT 64;
  END IF;
END $$;

CREATE SCHEMA pgward;
REVOKE ALL ON SCHEMA pgward FROM PUBLIC;
GRANT USAGE ON SCHEMA pgward TO {name};

CREATE TABLE pgward.checkpoint (
  origin text NOT NULL CHECK (pg_catalog.octet_length(origin) BETWEEN 1 AND 255),
  size bigint NOT NULL CHECK (size >= 0),
  root bytea NOT NULL CHECK (pg_catalog.octet_length(root) = 32),
  note text NOT NULL CHECK (pg_catalog.octet_length(note) <= 16384),
  inserted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  inserted_by name NOT NULL DEFAULT SESSION_USER,
  inserted_from inet DEFAULT pg_catalog.inet_client_addr(),
  PRIMARY KEY (origin, size)
);

-- A role reads what it wrote. Time, role and address are the server's word.
ALTER TABLE pgward.checkpoint ENABLE ROW LEVEL SECURITY;
CREATE POLICY add ON pgward.checkpoint FOR INSERT WITH CHECK (inserted_by = SESSION_USER);
CREATE POLICY own ON pgward.checkpoint FOR SELECT USING (inserted_by = SESSION_USER);
REVOKE ALL ON pgward.checkpoint FROM PUBLIC;
GRANT SELECT, INSERT (origin, size, root, note) ON pgward.checkpoint TO {name};

CREATE FUNCTION pgward.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'checkpoints are never changed or removed' USING ERRCODE = '42501';
END $$;
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON pgward.checkpoint
  FOR EACH STATEMENT EXECUTE FUNCTION pgward.refuse();

ALTER FUNCTION pgward.refuse() OWNER TO pgward_anchor_owner;
ALTER TABLE pgward.checkpoint OWNER TO pgward_anchor_owner;
ALTER SCHEMA pgward OWNER TO pgward_anchor_owner;
COMMIT;
"
    )
}
