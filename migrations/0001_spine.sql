-- The spine: events by day, the keys that say which events are new, dead letters.
--
-- Runs under `weir migrate up`, and under dbmate with --migrations-table weir.schema_migrations
-- (dbmate's own default is public.schema_migrations; the two tools must use the same table).
--
-- Advisory locks, all of them in class 2003134834 ("weir" in ASCII):
--   1  event keys: writers hold it shared, the change of generation holds it alone
--   2  event partitions: one creator at a time
--   3  migrations: one runner at a time

-- migrate:up

-- Where somebody made the schema for weir's role, that role may have no right to create one.
DO $$
BEGIN
	IF to_regnamespace('weir') IS NULL THEN
		CREATE SCHEMA weir;
	END IF;
END
$$;

-- What makes this database differ from another one that has the same contents, see weir.epoch().
CREATE TABLE weir.instance (
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	id uuid NOT NULL DEFAULT gen_random_uuid(),
	created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO weir.instance DEFAULT VALUES;

-- Events lie in one partition a day (UTC) of the database's clock. No default partition: it would
-- have to be scanned whenever a day is attached. Duplicates are kept out by event_keys. Names that
-- machines made are compared as bytes: no language's rules slow the indexes down.
CREATE TABLE weir.events (
	uid uuid NOT NULL,
	tool text COLLATE "C" NOT NULL,
	event_type text COLLATE "C" NOT NULL,
	event_id text COLLATE "C" NOT NULL DEFAULT '',
	received_at timestamptz NOT NULL,
	stored_at timestamptz NOT NULL DEFAULT now(),
	headers json,
	content_type text,
	body bytea COMPRESSION lz4 NOT NULL,
	envelope bytea COMPRESSION lz4,
	traceparent text,
	recipient_id bigint,
	outcome text NOT NULL DEFAULT 'stored'
		CONSTRAINT events_outcome CHECK (outcome IN ('stored', 'filtered', 'transformed', 'dropped'))
) PARTITION BY RANGE (stored_at);
CREATE INDEX events_uid ON weir.events (uid);
CREATE INDEX events_tool_received_at ON weir.events (tool, received_at);
CREATE INDEX events_event_id ON weir.events (event_id);

-- Event keys: `key` is the 16-byte hash of tool, type and event id; uuid is the fixed-length type of
-- that size. Two slots take turns as generations, so a change of generation is one TRUNCATE and one
-- UPDATE: no table is made or dropped, and statements name the same tables for ever. Each slot has
-- its own primary key on `key` alone, which is why the parent has none: INSERT with ON CONFLICT DO
-- NOTHING (without a target) works through the parent.
CREATE TABLE weir.event_keys (
	key uuid NOT NULL,
	uid uuid NOT NULL,
	body_hash bigint NOT NULL,  -- first 8 bytes of the body's hash: same key, other body?
	valid_until timestamptz,    -- of events without id: from then on the key counts as free
	slot smallint NOT NULL      -- event_key_generation.slot at the time of the insert
) PARTITION BY LIST (slot);
-- No autovacuum: a table that is only added to and then truncated has little use for it, and with
-- statistics from its first seconds (one page!) the planner would read all of it for every key, until
-- the next ones. Without any it takes the index.
CREATE TABLE weir.event_keys_0 PARTITION OF weir.event_keys (PRIMARY KEY (key)) FOR VALUES IN (0)
	WITH (autovacuum_enabled = false);
CREATE TABLE weir.event_keys_1 PARTITION OF weir.event_keys (PRIMARY KEY (key)) FOR VALUES IN (1)
	WITH (autovacuum_enabled = false);

-- Which slot new keys go to. How a writer uses it, in one transaction:
--   1. SELECT pg_advisory_xact_lock_shared(2003134834, 1), as a statement of its own, so that the
--      next one's snapshot is younger than any change of generation
--   2. INSERT INTO event_keys with slot = the current one, of those keys that the other slot does
--      not hold, ON CONFLICT DO NOTHING
CREATE TABLE weir.event_key_generation (
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	current integer NOT NULL DEFAULT 0,
	slot smallint NOT NULL GENERATED ALWAYS AS ((current % 2)::smallint) STORED,
	started_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO weir.event_key_generation DEFAULT VALUES;

CREATE TABLE weir.dead_letters (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	uid uuid NOT NULL,
	tool text COLLATE "C" NOT NULL,
	event_type text COLLATE "C" NOT NULL,
	event_id text COLLATE "C" NOT NULL DEFAULT '',
	stage text NOT NULL
		CONSTRAINT dead_letters_stage CHECK (stage IN ('queue', 'store', 'filter', 'transform', 'deliver')),
	error_class text NOT NULL,
	sqlstate text,
	message text,
	attempts integer NOT NULL DEFAULT 1,
	first_at timestamptz NOT NULL DEFAULT now(),
	last_at timestamptz NOT NULL DEFAULT now(),
	received_at timestamptz,
	headers json,
	content_type text,
	body bytea COMPRESSION lz4 NOT NULL,
	envelope bytea COMPRESSION lz4,
	traceparent text,
	state text NOT NULL DEFAULT 'open'
		CONSTRAINT dead_letters_state CHECK (state IN ('open', 'retrying', 'resolved', 'dropped'))
);
-- An event is given up once, however often an unknown outcome made somebody write it again
-- (ON CONFLICT DO NOTHING). Deliveries have several destinations.
CREATE UNIQUE INDEX dead_letters_event ON weir.dead_letters (uid) WHERE stage <> 'deliver';
CREATE INDEX dead_letters_uid ON weir.dead_letters (uid);
CREATE INDEX dead_letters_state ON weir.dead_letters (state, id);
CREATE INDEX dead_letters_event_id ON weir.dead_letters (event_id);

-- The payload as jsonb, or NULL for whatever jsonb cannot hold: other content, \u0000, lone
-- surrogates, numbers out of range, nesting without end, bytes that are not UTF-8. Never an error,
-- and IMMUTABLE, so it may stand in an expression index. (The block's subtransaction is what forbids
-- PARALLEL SAFE.)
CREATE FUNCTION weir.body_json(body bytea) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL UNSAFE AS $$
BEGIN
	RETURN pg_catalog.convert_from(body, 'UTF8')::pg_catalog.jsonb;
EXCEPTION WHEN OTHERS THEN
	RETURN NULL;
END
$$;

-- Names the contents of event_keys for caches of keys that live elsewhere: differs after a dump was
-- restored, after a fail-over and after point-in-time recovery, when keys that a cache remembers may
-- be gone from here.
CREATE FUNCTION weir.epoch() RETURNS text
LANGUAGE sql STABLE AS $$
	SELECT pg_catalog.md5(i.id::text || ' ' || d.oid || ' ' || 'weir.event_keys'::pg_catalog.regclass::pg_catalog.oid
		|| ' ' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))
	FROM weir.instance i, pg_catalog.pg_database d
	WHERE d.datname = pg_catalog.current_database()
$$;

-- Makes the partitions from today to `days_ahead` days from now (UTC) that are missing; returns how
-- many it made. A partition is created apart and then attached, which stops no writer. Any number of
-- callers at once is fine; a lock that does not come within 5 s is an error (55P03): call again.
CREATE FUNCTION weir.ensure_event_partitions(days_ahead integer) RETURNS integer
LANGUAGE plpgsql
SET lock_timeout = '5s'
AS $$
DECLARE
	today date;
	day date;
	leaf text;
	made integer := 0;
BEGIN
	PERFORM pg_advisory_xact_lock(2003134834, 2);
	today := (clock_timestamp() AT TIME ZONE 'UTC')::date;
	FOR i IN 0 .. least(greatest(days_ahead, 0), 3660) LOOP
		day := today + i;
		leaf := 'events_' || to_char(day, 'YYYYMMDD');
		CONTINUE WHEN EXISTS (
			SELECT FROM pg_inherits
			WHERE inhparent = 'weir.events'::regclass AND inhrelid = to_regclass('weir.' || leaf));
		EXECUTE format('CREATE TABLE IF NOT EXISTS weir.%I (LIKE weir.events INCLUDING ALL)', leaf);
		EXECUTE format('ALTER TABLE weir.events ATTACH PARTITION weir.%I FOR VALUES FROM (%L) TO (%L)',
			leaf, to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00',
			to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00');
		made := made + 1;
	END LOOP;
	RETURN made;
END
$$;

-- Starts a new generation of event keys when the current one is `dedup_days` old: the slot of the
-- one before is emptied and becomes the current one. So a key is remembered for one to two times
-- `dedup_days`. Returns the current generation. Writers wait while this runs, at most as long as the
-- lock timeout if somebody reads that slot for long (then 55P03: call again later).
CREATE FUNCTION weir.ensure_key_generation(dedup_days integer) RETURNS integer
LANGUAGE plpgsql
SET lock_timeout = '3s'
AS $$
DECLARE
	keep interval := make_interval(days => greatest(dedup_days, 1));
	gen weir.event_key_generation%ROWTYPE;
BEGIN
	SELECT * INTO STRICT gen FROM weir.event_key_generation;
	IF gen.started_at > clock_timestamp() - keep THEN
		RETURN gen.current;
	END IF;
	PERFORM pg_advisory_xact_lock(2003134834, 1);
	SELECT * INTO STRICT gen FROM weir.event_key_generation;
	IF gen.started_at > clock_timestamp() - keep THEN
		RETURN gen.current;
	END IF;
	EXECUTE format('TRUNCATE weir.event_keys_%s', 1 - gen.slot);
	UPDATE weir.event_key_generation SET current = (gen.current + 1) % 1000000000, started_at = clock_timestamp();
	RETURN (gen.current + 1) % 1000000000;
END
$$;

SELECT weir.ensure_event_partitions(7);

-- migrate:down

DROP FUNCTION weir.ensure_key_generation(integer);
DROP FUNCTION weir.ensure_event_partitions(integer);
DROP FUNCTION weir.epoch();
DROP FUNCTION weir.body_json(bytea) CASCADE;
DROP TABLE weir.dead_letters;
DROP TABLE weir.event_key_generation;
DROP TABLE weir.event_keys;
DROP TABLE weir.events;
DROP TABLE weir.instance;
