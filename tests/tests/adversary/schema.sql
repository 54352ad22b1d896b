-- What is attacked. `vault` is forbidden, `shop` is not; much of `shop` leads into `vault`.
-- The canaries of a run stand in for the words between at signs.

create role app login superuser;
create role keeper login superuser password 'not told to anybody';
create role clerk login;

create extension dblink;
create extension postgres_fdw;
create extension tablefunc;
create extension pageinspect;

create schema vault;
create schema shop;

create table vault.cards (id int primary key, number text not null unique, holder text, cvv text);
insert into vault.cards values @CARDS@;
create table vault.items (id int constraint vault_items_key primary key, name text, price numeric(10, 2), note text);
insert into vault.items select id, number, 1, holder from vault.cards;
create table vault."carté" as select number from vault.cards;
create table vault.llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll as select number from vault.cards;
create sequence vault.card_seq start 771100;
create type vault.card as (number text, holder text);

create table shop.items (id int primary key, name text, price numeric(10, 2), note text);
insert into shop.items select n, 'item ' || n, n * 1.5, 'note ' || n from generate_series(1, 20) n;
create table shop.customers (id int primary key, name text not null, email text unique);
insert into shop.customers select n, 'customer ' || n, 'c' || n || '@example.com' from generate_series(1, 20) n;
create table shop.orders (id bigint generated always as identity primary key,
  customer int references shop.customers, item int references shop.items, amount int, placed timestamptz default now());
insert into shop.orders (customer, item, amount) select n % 20 + 1, n % 20 + 1, n from generate_series(1, 60) n;
create table shop.scratch (id int, number text, primary key (id));
create table shop.strict (id int, number text check (length(number) < 2));
create view shop.cheap as select id, name, price from shop.items where price < 10;

-- Relations of `shop` that lead into `vault`.
create view shop.v_cards as select id, number from vault.cards;
create view shop.v_again as select number as label from shop.v_cards;
create view shop.v_barrier with (security_barrier) as select number from vault.cards where id > 0;
create view shop.v_count as select case when count(*) > 0 then 'REA' || 'CHED' end as told from vault.cards;
create materialized view shop.mv_cards as select number from vault.cards;
create materialized view shop.mv_empty as select number from vault.cards with no data;
create table shop.payments (id int, number text) partition by range (id);
create table shop.payments_open partition of shop.payments for values from (0) to (100);
create table vault.payments_secret partition of shop.payments for values from (100) to (200);
insert into shop.payments values (1, 'open'), @PAYMENTS@;
create table shop.notes (id int, number text);
create table vault.notes_secret () inherits (shop.notes);
insert into shop.notes values (1, 'open');
insert into vault.notes_secret values @NOTES@;
create table vault.archive (id int, number text);
create table shop.archive_child () inherits (vault.archive);
insert into shop.archive_child values @ARCHIVE@;

-- Rules and triggers that do more than they say.
create table shop.trap (id int, number text);
create rule trap_insert as on insert to shop.trap do also delete from vault.cards where id = new.id;
create rule trap_update as on update to shop.trap do instead select number from vault.cards;
insert into shop.trap values (0, 'bait');
create table shop.triggered (id int, number text);
create function shop.fill() returns trigger language plpgsql as
  $$ begin select number into new.number from vault.cards where id = new.id; return new; end $$;
create trigger fill before insert on shop.triggered for each row execute function shop.fill();
create table shop.accounts (id int primary key, name text);
insert into shop.accounts values (1, 'one'), (2, 'two');
create table vault.balances (account int references shop.accounts on delete cascade on update cascade, sum int);
insert into vault.balances values (1, 100), (2, 200);

-- Functions.
create function shop.total(int) returns numeric language sql stable as
  'select sum(i.price * o.amount) from shop.orders o join shop.items i on i.id = o.item where o.customer = $1';
create function shop.card_sql(int) returns text language sql stable as 'select number from vault.cards where id = $1';
create function shop.card_atomic(int) returns text language sql stable
  begin atomic select number from vault.cards where id = $1; end;
create function shop.card_plpgsql(int) returns text language plpgsql stable as
  $$ begin return (select number from vault.cards where id = $1); end $$;
create function shop.card_definer(int) returns text language plpgsql stable security definer as
  $$ begin return (select number from vault.cards where id = $1); end $$;
create function shop.card_path(int) returns text language sql stable set search_path = vault as
  'select number from cards where id = $1';
create function shop.card_fixed(int) returns text language plpgsql immutable as
  $$ begin return (select number from vault.cards where id = $1); end $$;
create function shop.all_cards() returns setof vault.cards language sql stable as 'select * from vault.cards';
create function shop.dynamic(text) returns setof text language plpgsql as
  $$ begin return query execute $1; end $$;
create function shop.open_cursor(refcursor) returns refcursor language plpgsql as
  $$ begin open $1 for select number from vault.cards; return $1; end $$;
create procedure shop.leak() language plpgsql as
  $$ declare c text; begin select number into c from vault.cards limit 1; raise notice '%', c; end $$;
create procedure shop.out_leak(inout c text) language plpgsql as
  $$ begin select number into c from vault.cards limit 1; end $$;
create function shop.collect(text, int) returns text language sql stable as
  $$ select coalesce($1, '') || (select number from vault.cards where id = $2) $$;
create aggregate shop.cards_of (int) (sfunc = shop.collect, stype = text);
create operator shop.|> (rightarg = int, function = shop.card_sql);
create type shop.kind as (id int);
create function shop.kind_text(shop.kind) returns text language sql stable as 'select number from vault.cards where id = $1.id';
create cast (shop.kind as text) with function shop.kind_text(shop.kind) as assignment;
create function shop.refuse(int) returns bool language plpgsql immutable as
  $$ begin raise exception 'refused: %', (select number from vault.cards where id = $1); end $$;
create domain shop.telling as int check (shop.refuse(value));
create table shop.defaults (id int, number text default shop.card_sql(1));
create table shop.computed (id int, number text generated always as (shop.card_fixed(id)) stored);
create function public.card_of(shop.items) returns text language sql stable as
  'select number from vault.cards where id = $1.id';

-- The same through the server's own connections to itself.
create server loop foreign data wrapper postgres_fdw options (host '@SOCKET@', port '@PORT@', dbname 'attack');
create user mapping for public server loop options (user 'postgres', password_required 'false');
create foreign table shop.f_cards (id int, number text) server loop options (schema_name 'vault', table_name 'cards');

select lo_from_bytea(4711, '@LARGE@');
analyze;
