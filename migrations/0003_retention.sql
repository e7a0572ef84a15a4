-- Retention: event partitions and settled rows that are older than RETENTION_DAYS go.

-- migrate:up

-- Who does the housekeeping that one weir is enough for. A lease and no advisory lock: DETACH
-- PARTITION CONCURRENTLY stands in no transaction with anything else, so such a lock would have to
-- be a session's, and sessions belong to pools.
CREATE TABLE weir.maintenance_lease (
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	holder text NOT NULL DEFAULT '',
	valid_until timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO weir.maintenance_lease DEFAULT VALUES;

-- Whether `holder` has the lease for the next `seconds`; 0 gives it back. A lease that reaches more
-- than an hour ahead is from before a clock was set back, and counts for nothing.
CREATE FUNCTION weir.hold_maintenance(holder text, seconds integer) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '2s'
AS $$
BEGIN
	UPDATE weir.maintenance_lease l
	SET holder = hold_maintenance.holder, valid_until = clock_timestamp() + make_interval(secs => seconds)
	WHERE l.holder = hold_maintenance.holder
		OR l.valid_until NOT BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 hour';
	RETURN FOUND;
END
$$;

-- When the last moment lies that is past `keep_days` by both clocks, the database's and the
-- caller's: one clock that has jumped ahead must not drop anything.
CREATE FUNCTION weir.retention_cutoff(keep_days integer, caller_now timestamptz) RETURNS timestamptz
LANGUAGE sql VOLATILE AS $$
	SELECT least(clock_timestamp(), caller_now) - make_interval(days => greatest(keep_days, 1))
$$;

-- What marks a table as one that is on its way out, so that a detached table which somebody wants to
-- keep is never dropped.
CREATE FUNCTION weir.retention_mark() RETURNS text
LANGUAGE sql IMMUTABLE AS $$
	SELECT 'weir: past RETENTION_DAYS, to be dropped'
$$;

-- All that is past its time, with the statement that each needs next: DETACH for a partition, FINALIZE
-- for one whose DETACH was interrupted, DROP for one that is detached (and marked as ours). A row
-- without statement waits: only one partition of a table can be in the middle of a DETACH.
CREATE FUNCTION weir.expired_partitions(keep_days integer, caller_now timestamptz)
RETURNS TABLE (name text, action text, statement text)
LANGUAGE plpgsql AS $$
DECLARE
	cutoff timestamptz := weir.retention_cutoff(keep_days, caller_now);
	pending boolean := EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'weir.events'::regclass AND inhdetachpending);
BEGIN
	RETURN QUERY
	SELECT c.relname::text, a.action, CASE
		WHEN a.action = 'drop' THEN format('DROP TABLE weir.%I', c.relname)
		WHEN a.action = 'finalize' THEN format('ALTER TABLE weir.events DETACH PARTITION weir.%I FINALIZE', c.relname)
		WHEN NOT pending THEN format('ALTER TABLE weir.events DETACH PARTITION weir.%I CONCURRENTLY', c.relname)
		END
	FROM pg_class c
	LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
	CROSS JOIN LATERAL (SELECT CASE
		WHEN i.inhrelid IS NULL THEN 'drop'
		WHEN i.inhdetachpending THEN 'finalize'
		ELSE 'detach' END) a(action)
	WHERE c.relnamespace = 'weir'::regnamespace AND c.relkind IN ('r', 'p') AND CASE
		WHEN i.inhrelid IS NULL THEN obj_description(c.oid, 'pg_class') = weir.retention_mark()
		ELSE i.inhparent = 'weir.events'::regclass
			AND (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''([^'']+)''\)$'))[1]::timestamptz <= cutoff
		END
	ORDER BY c.relname COLLATE "C";
END
$$;

-- Takes or keeps the lease, and tells what to run next: the first statement behind the name `after`
-- (those up to it have failed already), marked where that is needed. Each statement stands in a
-- transaction of its own, and whatever ends in between is taken up by the next caller. `expired`
-- counts all that are still there. `keep_days` 0 keeps all.
CREATE FUNCTION weir.next_expired_partition(holder text, keep_days integer, caller_now timestamptz, after text,
	OUT held boolean, OUT expired integer, OUT name text, OUT statement text)
LANGUAGE plpgsql
SET lock_timeout = '2s'
AS $$
DECLARE
	one record;
BEGIN
	expired := 0;
	held := weir.hold_maintenance(holder, 120);
	IF NOT held OR keep_days < 1 THEN
		RETURN;
	END IF;
	FOR one IN SELECT * FROM weir.expired_partitions(keep_days, caller_now) LOOP
		expired := expired + 1;
		CONTINUE WHEN statement IS NOT NULL OR one.statement IS NULL OR one.name COLLATE "C" <= after;
		name := one.name;
		statement := one.statement;
		IF one.action <> 'drop' THEN
			EXECUTE format('COMMENT ON TABLE weir.%I IS %L', one.name, weir.retention_mark());
		END IF;
	END LOOP;
END
$$;

-- Only what is settled goes by age; open dead letters stay for ever.
CREATE INDEX dead_letters_settled ON weir.dead_letters (last_at) WHERE state IN ('resolved', 'dropped');

-- Deletes at most `at_most` dead letters that were settled and are past their time; returns how many.
CREATE FUNCTION weir.prune_dead_letters(keep_days integer, caller_now timestamptz, at_most integer) RETURNS integer
LANGUAGE plpgsql
SET lock_timeout = '2s'
AS $$
DECLARE
	n integer;
BEGIN
	DELETE FROM weir.dead_letters WHERE id IN (
		SELECT d.id FROM weir.dead_letters d
		WHERE d.state IN ('resolved', 'dropped') AND d.last_at <= weir.retention_cutoff(keep_days, caller_now)
		ORDER BY d.last_at LIMIT at_most FOR UPDATE SKIP LOCKED);
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;

-- One small step of all pruning, under the lease; returns how many rows it deleted, 0 when there is
-- nothing left to do.
CREATE FUNCTION weir.prune_step(holder text, keep_days integer, caller_now timestamptz, at_most integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
	n integer;
	more integer;
BEGIN
	IF keep_days < 1 OR NOT weir.hold_maintenance(holder, 120) THEN
		RETURN 0;
	END IF;
	n := weir.prune_dead_letters(keep_days, caller_now, at_most);
	-- The recipients' part, where this schema has it.
	IF to_regprocedure('weir.prune_recipient_events(timestamptz, integer)') IS NOT NULL THEN
		EXECUTE 'SELECT weir.prune_recipient_events($1, $2)' INTO more
			USING weir.retention_cutoff(keep_days, caller_now), at_most;
		n := n + coalesce(more, 0);
	END IF;
	RETURN n;
END
$$;

-- migrate:down

DROP FUNCTION weir.prune_step(text, integer, timestamptz, integer);
DROP FUNCTION weir.prune_dead_letters(integer, timestamptz, integer);
DROP INDEX weir.dead_letters_settled;
DROP FUNCTION weir.next_expired_partition(text, integer, timestamptz, text);
DROP FUNCTION weir.expired_partitions(integer, timestamptz);
DROP FUNCTION weir.retention_mark();
DROP FUNCTION weir.retention_cutoff(integer, timestamptz);
DROP FUNCTION weir.hold_maintenance(text, integer);
DROP TABLE weir.maintenance_lease;
