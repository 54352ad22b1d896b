SELECT pg_catalog.concat_ws(
    '.',
    (SELECT pg_catalog.sum(pg_catalog.hashint8extended(
            (c.oid::pg_catalog.int8 OPERATOR(pg_catalog.<<) 32)
            OPERATOR(pg_catalog.|) c.xmin::pg_catalog.text::pg_catalog.int8, 1))
       FROM pg_catalog.pg_class AS c
      WHERE c.relpersistence OPERATOR(pg_catalog.<>) 't'
        AND c.relkind OPERATOR(pg_catalog.<>) 't'),
    (SELECT pg_catalog.sum(pg_catalog.hashint8extended(
            (a.attrelid::pg_catalog.int8 OPERATOR(pg_catalog.<<) 32)
            OPERATOR(pg_catalog.|) a.xmin::pg_catalog.text::pg_catalog.int8, a.attnum))
       FROM pg_catalog.pg_attribute AS a
      WHERE a.attnum OPERATOR(pg_catalog.>) 0
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class AS t
                         WHERE t.oid OPERATOR(pg_catalog.=) a.attrelid
                           AND t.relpersistence OPERATOR(pg_catalog.=) 't')),
    (SELECT pg_catalog.sum(pg_catalog.hashint8extended(
            (i.inhrelid::pg_catalog.int8 OPERATOR(pg_catalog.<<) 32)
            OPERATOR(pg_catalog.|) i.xmin::pg_catalog.text::pg_catalog.int8, i.inhseqno))
       FROM pg_catalog.pg_inherits AS i),
    (SELECT pg_catalog.sum(pg_catalog.hashint8extended(
            (y.oid::pg_catalog.int8 OPERATOR(pg_catalog.<<) 32)
            OPERATOR(pg_catalog.|) y.xmin::pg_catalog.text::pg_catalog.int8, 1))
       FROM pg_catalog.pg_type AS y
      WHERE y.typrelid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
        AND y.typcategory OPERATOR(pg_catalog.<>) 'A'),
    (SELECT pg_catalog.sum(pg_catalog.hashint8extended(
            (t.oid::pg_catalog.int8 OPERATOR(pg_catalog.<<) 32)
            OPERATOR(pg_catalog.|) t.xmin::pg_catalog.text::pg_catalog.int8, 1))
       FROM pg_catalog.pg_constraint AS t
      WHERE t.contype OPERATOR(pg_catalog.=) 'f'
         OR t.contypid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid),
    (SELECT pg_catalog.sum(pg_catalog.hashint8extended(
            (x.id::pg_catalog.int8 OPERATOR(pg_catalog.<<) 32)
            OPERATOR(pg_catalog.|) x.made::pg_catalog.text::pg_catalog.int8, x.kind))
       FROM (SELECT 1, n.oid, n.xmin FROM pg_catalog.pg_namespace AS n
              WHERE NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_temp_')
                AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_toast_temp_')
             UNION ALL SELECT 2, r.oid, r.xmin FROM pg_catalog.pg_rewrite AS r
             UNION ALL SELECT 3, p.oid, p.xmin FROM pg_catalog.pg_proc AS p
             UNION ALL SELECT 4, o.oid, o.xmin FROM pg_catalog.pg_operator AS o
             UNION ALL SELECT 5, k.oid, k.xmin FROM pg_catalog.pg_cast AS k
             UNION ALL SELECT 6, g.oid, g.xmin FROM pg_catalog.pg_trigger AS g
              WHERE NOT g.tgisinternal
             UNION ALL SELECT 7, f.ftrelid, f.xmin FROM pg_catalog.pg_foreign_table AS f
             UNION ALL SELECT 8, s.oid, s.xmin FROM pg_catalog.pg_foreign_server AS s
             UNION ALL SELECT 9, e.oid, e.xmin FROM pg_catalog.pg_extension AS e
            ) AS x (kind, id, made))
)
