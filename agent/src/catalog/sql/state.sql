SELECT pg_catalog.current_schemas(true)::pg_catalog.text,
       pg_catalog.current_schema()::pg_catalog.text,
       pg_catalog.current_setting('search_path'),
       CURRENT_USER::pg_catalog.text,
       SESSION_USER::pg_catalog.text,
       (SELECT n.nspname::pg_catalog.text
          FROM pg_catalog.pg_namespace AS n
         WHERE n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()),
       (SELECT pg_catalog.array_agg(pg_catalog.concat(c.relkind, c.relname))::pg_catalog.text
          FROM pg_catalog.pg_class AS c
         WHERE pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
           AND c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
           AND c.relkind OPERATOR(pg_catalog.<>) 'i'),
       pg_catalog.current_setting('standard_conforming_strings'),
       pg_catalog.current_setting('backslash_quote'),
       pg_catalog.current_setting('client_encoding'),
       pg_catalog.current_setting('server_encoding'),
       pg_catalog.current_setting('row_security'),
       pg_catalog.current_setting('session_replication_role'),
       pg_catalog.current_setting('server_version_num'),
       pg_catalog.current_database()::pg_catalog.text,
       pg_catalog.pg_current_snapshot()::pg_catalog.text,
       pg_catalog.pg_is_in_recovery()::pg_catalog.text
