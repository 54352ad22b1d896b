(SELECT 'N'::pg_catalog.text AS kind,
        n.oid::pg_catalog.text AS a,
        n.nspname::pg_catalog.text AS b,
        NULL::pg_catalog.text AS c,
        NULL::pg_catalog.text AS d,
        NULL::pg_catalog.text AS e,
        NULL::pg_catalog.text AS f,
        NULL::pg_catalog.text AS g,
        NULL::pg_catalog.text AS h
   FROM pg_catalog.pg_namespace AS n
  WHERE NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_temp_')
    AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_toast_temp_'))
UNION ALL
(SELECT 'R',
        c.oid::pg_catalog.text,
        c.relnamespace::pg_catalog.text,
        c.relname::pg_catalog.text,
        pg_catalog.concat(c.relkind, c.relpersistence,
                          CASE WHEN c.relrowsecurity THEN 'r' END,
                          CASE WHEN c.relforcerowsecurity THEN 'f' END,
                          CASE WHEN c.relispartition THEN 'p' END),
        pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text,
        x.indrelid::pg_catalog.text,
        s.srvname::pg_catalog.text,
        NULL
   FROM pg_catalog.pg_class AS c
   LEFT JOIN pg_catalog.pg_index AS x ON x.indexrelid OPERATOR(pg_catalog.=) c.oid
   LEFT JOIN pg_catalog.pg_foreign_table AS f ON f.ftrelid OPERATOR(pg_catalog.=) c.oid
   LEFT JOIN pg_catalog.pg_foreign_server AS s ON s.oid OPERATOR(pg_catalog.=) f.ftserver
  WHERE c.relpersistence OPERATOR(pg_catalog.<>) 't'
    AND c.relkind OPERATOR(pg_catalog.<>) 't'
  LIMIT {relations})
UNION ALL
(SELECT 'A',
        a.attrelid::pg_catalog.text,
        pg_catalog.array_agg(a.attnum ORDER BY a.attnum)::pg_catalog.text,
        pg_catalog.array_agg(a.attname ORDER BY a.attnum)::pg_catalog.text,
        pg_catalog.array_agg(a.atttypid ORDER BY a.attnum)::pg_catalog.text,
        pg_catalog.array_agg(a.attnum) FILTER (WHERE a.attgenerated OPERATOR(pg_catalog.<>) '')
            ::pg_catalog.text,
        NULL, NULL, NULL
   FROM pg_catalog.pg_attribute AS a
   JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) a.attrelid
  WHERE a.attnum OPERATOR(pg_catalog.>) 0
    AND NOT a.attisdropped
    AND c.relpersistence OPERATOR(pg_catalog.<>) 't'
    AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f,c}'::pg_catalog."char"[])
  GROUP BY a.attrelid
  LIMIT {relations})
UNION ALL
(SELECT 'V',
        r.ev_class::pg_catalog.text,
        pg_catalog.concat(r.ev_type,
                          CASE WHEN r.is_instead THEN 'i' END,
                          CASE WHEN pg_catalog.strpos(t.text, ':varattno 0 ')
                                    OPERATOR(pg_catalog.>) 0 THEN 'w' END),
        (SELECT pg_catalog.array_agg(DISTINCT o.oid)
           FROM pg_catalog.unnest(pg_catalog.string_to_array(t.text, ':relid '))
                WITH ORDINALITY AS m (part, number)
          CROSS JOIN LATERAL (SELECT pg_catalog.split_part(m.part, ' ', 1)) AS o (oid)
          WHERE m.number OPERATOR(pg_catalog.>) 1
            AND o.oid OPERATOR(pg_catalog.<>) ''
            AND pg_catalog.translate(o.oid, '0123456789', '')
                OPERATOR(pg_catalog.=) '')::pg_catalog.text,
        (SELECT pg_catalog.array_agg(DISTINCT o.oid)
           FROM pg_catalog.unnest(pg_catalog.string_to_array(
                    pg_catalog.replace(t.text, 'fnoid ', 'funcid '), 'funcid '))
                WITH ORDINALITY AS m (part, number)
          CROSS JOIN LATERAL (SELECT pg_catalog.split_part(m.part, ' ', 1)) AS o (oid)
          WHERE m.number OPERATOR(pg_catalog.>) 1
            AND o.oid OPERATOR(pg_catalog.<>) ''
            AND pg_catalog.translate(o.oid, '0123456789', '')
                OPERATOR(pg_catalog.=) '')::pg_catalog.text,
        NULL, NULL, NULL, NULL
   FROM pg_catalog.pg_rewrite AS r
  CROSS JOIN LATERAL (SELECT pg_catalog.concat(r.ev_qual, r.ev_action)) AS t (text)
  LIMIT {rules})
UNION ALL
(SELECT 'D',
        r.ev_class::pg_catalog.text,
        r.ev_type::pg_catalog.text,
        d.refobjid::pg_catalog.text,
        pg_catalog.array_agg(DISTINCT d.refobjsubid)::pg_catalog.text,
        NULL, NULL, NULL, NULL
   FROM pg_catalog.pg_rewrite AS r
   JOIN pg_catalog.pg_depend AS d
     ON d.classid OPERATOR(pg_catalog.=) 2618::pg_catalog.oid
    AND d.objid OPERATOR(pg_catalog.=) r.oid
    AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
    AND d.deptype OPERATOR(pg_catalog.=) 'n'
  GROUP BY r.ev_class, r.ev_type, d.refobjid
  LIMIT {edges})
UNION ALL
(SELECT 'I', i.inhrelid::pg_catalog.text, i.inhparent::pg_catalog.text,
        NULL, NULL, NULL, NULL, NULL, NULL
   FROM pg_catalog.pg_inherits AS i
  LIMIT {edges})
UNION ALL
(SELECT 'K', t.conrelid::pg_catalog.text, t.confrelid::pg_catalog.text,
        pg_catalog.concat(t.confupdtype, t.confdeltype), NULL, NULL, NULL, NULL, NULL
   FROM pg_catalog.pg_constraint AS t
  WHERE t.contype OPERATOR(pg_catalog.=) 'f'
  LIMIT {edges})
UNION ALL
(SELECT 'G', g.tgrelid::pg_catalog.text, g.tgfoid::pg_catalog.text,
        g.tgtype::pg_catalog.text, NULL, NULL, NULL, NULL, NULL
   FROM pg_catalog.pg_trigger AS g
  WHERE NOT g.tgisinternal
  LIMIT {edges})
UNION ALL
(SELECT 'B',
        pg_catalog.array_agg(p.oid ORDER BY p.oid)::pg_catalog.text,
        pg_catalog.array_agg(p.proname ORDER BY p.oid)::pg_catalog.text,
        pg_catalog.array_agg(p.provolatile ORDER BY p.oid)::pg_catalog.text,
        NULL, NULL, NULL, NULL, NULL
   FROM pg_catalog.pg_proc AS p
  WHERE p.oid OPERATOR(pg_catalog.<) 16384::pg_catalog.oid
    AND p.pronamespace OPERATOR(pg_catalog.=) 11::pg_catalog.oid)
UNION ALL
(SELECT 'F',
        p.oid::pg_catalog.text,
        p.pronamespace::pg_catalog.text,
        p.proname::pg_catalog.text,
        pg_catalog.concat(p.prokind, p.provolatile,
                          CASE WHEN p.prosecdef THEN 'd' END,
                          CASE WHEN p.proretset THEN 's' END,
                          CASE WHEN p.provariadic OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
                               THEN 'v' END,
                          CASE WHEN e.objid IS NOT NULL THEN 'e' END,
                          CASE WHEN p.proconfig IS NOT NULL THEN 'c' END),
        l.lanname::pg_catalog.text,
        p.proargtypes::pg_catalog.text,
        p.pronargdefaults::pg_catalog.text,
        pg_catalog.pg_get_userbyid(p.proowner)::pg_catalog.text
   FROM pg_catalog.pg_proc AS p
   JOIN pg_catalog.pg_language AS l ON l.oid OPERATOR(pg_catalog.=) p.prolang
   LEFT JOIN pg_catalog.pg_depend AS e
     ON e.classid OPERATOR(pg_catalog.=) 1255::pg_catalog.oid
    AND e.objid OPERATOR(pg_catalog.=) p.oid
    AND e.objsubid OPERATOR(pg_catalog.=) 0
    AND e.deptype OPERATOR(pg_catalog.=) 'e'
  WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
     OR p.pronamespace OPERATOR(pg_catalog.<>) 11::pg_catalog.oid
  LIMIT {functions})
UNION ALL
(SELECT 'O',
        o.oid::pg_catalog.text, o.oprnamespace::pg_catalog.text, o.oprname::pg_catalog.text,
        o.oprleft::pg_catalog.text, o.oprright::pg_catalog.text,
        o.oprcode::pg_catalog.oid::pg_catalog.text, NULL, NULL
   FROM pg_catalog.pg_operator AS o
  WHERE o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
     OR o.oprnamespace OPERATOR(pg_catalog.<>) 11::pg_catalog.oid
  LIMIT {functions})
UNION ALL
(SELECT 'C',
        k.castsource::pg_catalog.text, k.casttarget::pg_catalog.text,
        k.castfunc::pg_catalog.text, k.castcontext::pg_catalog.text,
        NULL, NULL, NULL, NULL
   FROM pg_catalog.pg_cast AS k
  WHERE k.castfunc OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
  LIMIT {functions})
UNION ALL
(SELECT 'T',
        y.oid::pg_catalog.text, y.typnamespace::pg_catalog.text, y.typname::pg_catalog.text,
        y.typtype::pg_catalog.text, y.typbasetype::pg_catalog.text, y.typrelid::pg_catalog.text,
        (SELECT pg_catalog.array_agg(DISTINCT d.refobjid)
           FROM pg_catalog.pg_constraint AS t
           JOIN pg_catalog.pg_depend AS d
             ON d.classid OPERATOR(pg_catalog.=) 2606::pg_catalog.oid
            AND d.objid OPERATOR(pg_catalog.=) t.oid
            AND d.refclassid OPERATOR(pg_catalog.=) 1255::pg_catalog.oid
          WHERE t.contypid OPERATOR(pg_catalog.=) y.oid)::pg_catalog.text,
        NULL
   FROM pg_catalog.pg_type AS y
   LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) y.typrelid
  WHERE (y.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
         OR y.typnamespace OPERATOR(pg_catalog.<>) 11::pg_catalog.oid)
    AND y.typcategory OPERATOR(pg_catalog.<>) 'A'
    AND (y.typrelid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
         OR c.relkind OPERATOR(pg_catalog.=) 'c')
  LIMIT {types})
UNION ALL
(SELECT 'Y',
        pg_catalog.array_agg(y.oid ORDER BY y.oid)::pg_catalog.text,
        pg_catalog.array_agg(y.typname ORDER BY y.oid)::pg_catalog.text,
        NULL, NULL, NULL, NULL, NULL, NULL
   FROM pg_catalog.pg_type AS y
  WHERE y.oid OPERATOR(pg_catalog.<) 16384::pg_catalog.oid
    AND y.typnamespace OPERATOR(pg_catalog.=) 11::pg_catalog.oid
    AND y.typrelid OPERATOR(pg_catalog.=) 0::pg_catalog.oid)
UNION ALL
(SELECT 'E',
        pg_catalog.current_setting('server_version_num'),
        pg_catalog.current_database()::pg_catalog.text,
        pg_catalog.pg_current_snapshot()::pg_catalog.text,
        pg_catalog.pg_is_in_recovery()::pg_catalog.text,
        ({stamp}),
        NULL, NULL, NULL)
