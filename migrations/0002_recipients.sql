-- Recipients and message batches: what became of each message that an application registered, and
-- how far a mailing is.
--
-- Statuses form a lattice: whatever a recipient once reached stays reached, times are the least and
-- the greatest, counts are sums over events that were stored once. So a row is the same for every
-- order of the same reports. By number, here and in the binary:
--   0 queued, 1 sent, 2 deferred, 3 delivered, 4 opened, 5 clicked, 6 bounced, 7 failed,
--   8 complained, 9 unsubscribed
-- and as bits 1 << number in `reached`. Click implies open, open implies delivered.
--
-- Who waits for whom. Everybody takes locks in this order, each kind sorted, and so nobody waits in
-- a ring:
--   1. advisory locks of class 2003134834, numbers 1000 to 1063: the places where a report that
--      finds no recipient and the registration of that recipient meet, see weir.apply_reports()
--   2. rows of recipients, by id
--   3. rows of message_batches, by id

-- migrate:up

CREATE TABLE weir.recipients (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tool text COLLATE "C" NOT NULL,
	message_id text COLLATE "C" NOT NULL,
	address text COLLATE "C" NOT NULL,
	batch_id text COLLATE "C" NOT NULL,
	-- What is shown of it. A hard bounce stays shown, whatever is opened later (by proxies); a soft one
	-- only until an engagement that is younger.
	status text NOT NULL GENERATED ALWAYS AS (CASE
		WHEN reached & 256 <> 0 THEN 'complained'
		WHEN reached & 64 <> 0 AND (hard_bounce OR reached & 48 = 0
			OR bounced_last_at > GREATEST(opened_last_at, clicked_last_at)) THEN 'bounced'
		WHEN reached & 32 <> 0 THEN 'clicked'
		WHEN reached & 16 <> 0 THEN 'opened'
		WHEN reached & 128 <> 0 THEN 'failed'
		WHEN reached & 8 <> 0 THEN 'delivered'
		WHEN reached & 2 <> 0 THEN 'sent'
		WHEN reached & 1 <> 0 THEN 'queued'
		WHEN reached & 4 <> 0 THEN 'deferred'
		ELSE 'registered' END) STORED,
	rank smallint NOT NULL GENERATED ALWAYS AS (CASE
		WHEN reached & 32 <> 0 THEN 60 WHEN reached & 16 <> 0 THEN 50 WHEN reached & 8 <> 0 THEN 40
		WHEN reached & 2 <> 0 THEN 20 WHEN reached & 1 <> 0 THEN 10 ELSE 0 END) STORED,
	problem smallint NOT NULL GENERATED ALWAYS AS (CASE
		WHEN reached & 256 <> 0 THEN 4 WHEN reached & 64 <> 0 THEN 3 WHEN reached & 128 <> 0 THEN 2
		ELSE 0 END) STORED,
	hard_bounce boolean NOT NULL DEFAULT false, -- a bounce that says something against the address
	registered_at timestamptz NOT NULL DEFAULT now(),
	-- Of each status: since when (inferred ones too), the last report of it, and how many reports. A
	-- status that is only inferred has a time and the count 0.
	queued_at timestamptz, queued_last_at timestamptz, queued_count integer NOT NULL DEFAULT 0,
	sent_at timestamptz, sent_last_at timestamptz, sent_count integer NOT NULL DEFAULT 0,
	deferred_at timestamptz, deferred_last_at timestamptz, deferred_count integer NOT NULL DEFAULT 0,
	delivered_at timestamptz, delivered_last_at timestamptz, delivered_count integer NOT NULL DEFAULT 0,
	opened_at timestamptz, opened_last_at timestamptz, opened_count integer NOT NULL DEFAULT 0,
	clicked_at timestamptz, clicked_last_at timestamptz, clicked_count integer NOT NULL DEFAULT 0,
	bounced_at timestamptz, bounced_last_at timestamptz, bounced_count integer NOT NULL DEFAULT 0,
	failed_at timestamptz, failed_last_at timestamptz, failed_count integer NOT NULL DEFAULT 0,
	complained_at timestamptz, complained_last_at timestamptz, complained_count integer NOT NULL DEFAULT 0,
	unsubscribed_at timestamptz, unsubscribed_last_at timestamptz, unsubscribed_count integer NOT NULL DEFAULT 0,
	reached smallint NOT NULL DEFAULT 0,
	reached_before smallint NOT NULL DEFAULT 0 -- before the latest change, for RETURNING
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX recipients_key ON weir.recipients (message_id, address, tool);
CREATE INDEX recipients_batch_id ON weir.recipients (batch_id);

-- A batch's counters: how many recipients ever reached a status.
CREATE TABLE weir.message_batches (
	id text COLLATE "C" PRIMARY KEY,
	tool text COLLATE "C" NOT NULL,
	total integer NOT NULL DEFAULT 0, -- recipients that are registered
	expected integer,                 -- how many will be; not complete before
	queued integer NOT NULL DEFAULT 0,
	sent integer NOT NULL DEFAULT 0,
	deferred integer NOT NULL DEFAULT 0,
	delivered integer NOT NULL DEFAULT 0,
	opened integer NOT NULL DEFAULT 0,
	clicked integer NOT NULL DEFAULT 0,
	bounced integer NOT NULL DEFAULT 0,
	failed integer NOT NULL DEFAULT 0,
	complained integer NOT NULL DEFAULT 0,
	unsubscribed integer NOT NULL DEFAULT 0,
	unique_recipients integer NOT NULL DEFAULT 0, -- of whom anything was reported
	finished integer NOT NULL DEFAULT 0, -- delivered or better, bounced, failed, complained
	created_at timestamptz NOT NULL DEFAULT now(),
	completed_at timestamptz,
	version bigint NOT NULL DEFAULT 0, -- grows with each change, see weir.next_version()
	completed_now boolean NOT NULL DEFAULT false -- by the latest change, for RETURNING
) WITH (fillfactor = 50);

-- Reports whose recipient is not registered (yet).
CREATE TABLE weir.recipient_events (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tool text COLLATE "C" NOT NULL,
	message_id text COLLATE "C" NOT NULL,
	address text COLLATE "C" NOT NULL,
	status smallint NOT NULL,
	soft boolean NOT NULL,
	at timestamptz NOT NULL,
	event_uid uuid NOT NULL,
	stored_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX recipient_events_key ON weir.recipient_events (message_id, address, tool);
CREATE INDEX recipient_events_stored_at ON weir.recipient_events (stored_at);

-- What a transaction registered and has still to settle when it commits; empty outside of transactions.
CREATE TABLE weir.message_batch_registrations (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
	batch_id text COLLATE "C" NOT NULL,
	recipient_ids bigint[] NOT NULL,
	expected integer,
	counted boolean NOT NULL
);

-- Copies of a batch's counters elsewhere follow its version. It is a time, so that it also grows where
-- a batch was deleted and made anew, or the database was set back to an earlier state.
CREATE FUNCTION weir.next_version(version bigint) RETURNS bigint
LANGUAGE sql VOLATILE AS $$
	SELECT GREATEST(version + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
$$;

CREATE FUNCTION weir.uuid7() RETURNS uuid
LANGUAGE sql VOLATILE AS $$
	SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
		PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
		FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;

-- How message ids and addresses are compared: as weir reads them from events. The display name is
-- left out, and so are blanks and angle brackets; addresses are in lower case.
CREATE FUNCTION weir.recipient_text(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT btrim(CASE WHEN right(t, 1) = '>' AND strpos(t, '<') > 0
		THEN regexp_replace(left(t, -1), '^.*<', '') ELSE t END, E' \t')
	FROM (SELECT btrim(value, E' \t') AS t) x
$$;

CREATE FUNCTION weir.message_batch_json(b weir.message_batches) RETURNS json
LANGUAGE sql STABLE AS $$
	SELECT json_build_object('id', b.id, 'tool', b.tool, 'total', b.total,
			'queued', b.queued,
			'sent', b.sent,
			'deferred', b.deferred,
			'delivered', b.delivered,
			'opened', b.opened,
			'clicked', b.clicked,
			'bounced', b.bounced,
			'failed', b.failed,
			'complained', b.complained,
			'unsubscribed', b.unsubscribed,
			'unique_recipients', b.unique_recipients, 'finished', b.finished,
			'created_at', b.created_at, 'completed_at', b.completed_at)
$$;

-- A completed batch is an event of its own, of the tool weir.
CREATE FUNCTION weir.tell_completed(b weir.message_batches) RETURNS void
LANGUAGE plpgsql
SET TimeZone = 'UTC'
AS $$
DECLARE
	body bytea := convert_to(weir.message_batch_json(b)::text, 'UTF8');
BEGIN
	FOR try IN 1 .. 2 LOOP
		BEGIN
			INSERT INTO weir.events (uid, tool, event_type, event_id, received_at, headers, content_type, body)
			VALUES (weir.uuid7(), 'weir', 'message_batch.completed', b.id, clock_timestamp(), '[]',
				'application/json', body);
			RETURN;
		EXCEPTION WHEN check_violation THEN
			IF try = 2 THEN
				RAISE;
			END IF;
			PERFORM weir.ensure_event_partitions(7); -- today's is missing: nobody was here for long
		END;
	END LOOP;
END
$$;

-- Applies reports to the recipients with these ids, then what is fresh of that to the counters of
-- their batches; returns the batches that changed. An id of 0 or NULL is passed over. Batches that are
-- complete by this are told. Where an id is not, or no longer, that of the tool, message id and address
-- beside it, the whole is refused with a serialization_failure.
--
-- No join that a planner could get wrong: what is to be applied comes folded, in the order of ids, and
-- for each of them the primary key is asked. With the condition written as a range, recipients could
-- else only be read as a whole, which is switched off; so that is the plan, whatever the statistics
-- say. An UPDATE, locking one row after the other, sees what others committed meanwhile, and leaves
-- out rows that they deleted; so what it applied is counted.
CREATE FUNCTION weir.apply_to_recipients(ids bigint[], tools text[], message_ids text[], addresses text[],
	statuses smallint[], softs boolean[], ats timestamptz[])
RETURNS SETOF weir.message_batches
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
DECLARE
	b weir.message_batches;
	applied bigint; -- reports
	sums weir.message_batches[]; -- what is fresh, by batch
BEGIN
	WITH applied AS (
		UPDATE weir.recipients r SET
			reached_before = r.reached,
			reached = r.reached | f.reached,
			hard_bounce = r.hard_bounce OR f.hard_bounce,
			queued_at = LEAST(r.queued_at, f.c0_at),
				queued_last_at = GREATEST(r.queued_last_at, f.c0_last),
				queued_count = r.queued_count + f.c0_n,
			sent_at = LEAST(r.sent_at, f.c1_at),
				sent_last_at = GREATEST(r.sent_last_at, f.c1_last),
				sent_count = r.sent_count + f.c1_n,
			deferred_at = LEAST(r.deferred_at, f.c2_at),
				deferred_last_at = GREATEST(r.deferred_last_at, f.c2_last),
				deferred_count = r.deferred_count + f.c2_n,
			delivered_at = LEAST(r.delivered_at, f.c3_at),
				delivered_last_at = GREATEST(r.delivered_last_at, f.c3_last),
				delivered_count = r.delivered_count + f.c3_n,
			opened_at = LEAST(r.opened_at, f.c4_at),
				opened_last_at = GREATEST(r.opened_last_at, f.c4_last),
				opened_count = r.opened_count + f.c4_n,
			clicked_at = LEAST(r.clicked_at, f.c5_at),
				clicked_last_at = GREATEST(r.clicked_last_at, f.c5_last),
				clicked_count = r.clicked_count + f.c5_n,
			bounced_at = LEAST(r.bounced_at, f.c6_at),
				bounced_last_at = GREATEST(r.bounced_last_at, f.c6_last),
				bounced_count = r.bounced_count + f.c6_n,
			failed_at = LEAST(r.failed_at, f.c7_at),
				failed_last_at = GREATEST(r.failed_last_at, f.c7_last),
				failed_count = r.failed_count + f.c7_n,
			complained_at = LEAST(r.complained_at, f.c8_at),
				complained_last_at = GREATEST(r.complained_last_at, f.c8_last),
				complained_count = r.complained_count + f.c8_n,
			unsubscribed_at = LEAST(r.unsubscribed_at, f.c9_at),
				unsubscribed_last_at = GREATEST(r.unsubscribed_last_at, f.c9_last),
				unsubscribed_count = r.unsubscribed_count + f.c9_n
		FROM (
			SELECT i.id, i.message_id, i.address, i.tool, count(*) AS n,
				bit_or(('{1,2,4,8,24,56,64,128,256,512}'::smallint[])[i.status + 1]) AS reached,
				bool_or(i.status = 6 AND NOT i.soft) AS hard_bounce,
				min(i.at) FILTER (WHERE i.status = 0) AS c0_at,
					max(i.at) FILTER (WHERE i.status = 0) AS c0_last, count(*) FILTER (WHERE i.status = 0) AS c0_n,
				min(i.at) FILTER (WHERE i.status = 1) AS c1_at,
					max(i.at) FILTER (WHERE i.status = 1) AS c1_last, count(*) FILTER (WHERE i.status = 1) AS c1_n,
				min(i.at) FILTER (WHERE i.status = 2) AS c2_at,
					max(i.at) FILTER (WHERE i.status = 2) AS c2_last, count(*) FILTER (WHERE i.status = 2) AS c2_n,
				min(i.at) FILTER (WHERE i.status IN (3, 4, 5)) AS c3_at,
					max(i.at) FILTER (WHERE i.status = 3) AS c3_last, count(*) FILTER (WHERE i.status = 3) AS c3_n,
				min(i.at) FILTER (WHERE i.status IN (4, 5)) AS c4_at,
					max(i.at) FILTER (WHERE i.status = 4) AS c4_last, count(*) FILTER (WHERE i.status = 4) AS c4_n,
				min(i.at) FILTER (WHERE i.status = 5) AS c5_at,
					max(i.at) FILTER (WHERE i.status = 5) AS c5_last, count(*) FILTER (WHERE i.status = 5) AS c5_n,
				min(i.at) FILTER (WHERE i.status = 6) AS c6_at,
					max(i.at) FILTER (WHERE i.status = 6) AS c6_last, count(*) FILTER (WHERE i.status = 6) AS c6_n,
				min(i.at) FILTER (WHERE i.status = 7) AS c7_at,
					max(i.at) FILTER (WHERE i.status = 7) AS c7_last, count(*) FILTER (WHERE i.status = 7) AS c7_n,
				min(i.at) FILTER (WHERE i.status = 8) AS c8_at,
					max(i.at) FILTER (WHERE i.status = 8) AS c8_last, count(*) FILTER (WHERE i.status = 8) AS c8_n,
				min(i.at) FILTER (WHERE i.status = 9) AS c9_at,
					max(i.at) FILTER (WHERE i.status = 9) AS c9_last, count(*) FILTER (WHERE i.status = 9) AS c9_n
			FROM (SELECT unnest(ids) AS id, unnest(tools) AS tool, unnest(message_ids) AS message_id,
				unnest(addresses) AS address, unnest(statuses) AS status, unnest(softs) AS soft, unnest(ats) AS at) i
			WHERE i.id <> 0
			GROUP BY i.id, i.message_id, i.address, i.tool
			ORDER BY i.id
		) f
		WHERE r.id >= f.id AND r.id <= f.id
			AND (r.message_id, r.address, r.tool) IS NOT DISTINCT FROM (f.message_id, f.address, f.tool)
		RETURNING r.batch_id, r.reached & ~r.reached_before AS fresh, r.reached_before = 0 AS first,
			r.reached & 504 <> 0 AND r.reached_before & 504 = 0 AS finished, f.n
	)
	SELECT COALESCE(sum(s.n), 0), array_agg(ROW(s.batch_id, '', 0, NULL, s.c0, s.c1, s.c2, s.c3, s.c4, s.c5,
		s.c6, s.c7, s.c8, s.c9, s.firsts, s.finishes, NULL, NULL, 0, NULL)::weir.message_batches
		ORDER BY s.batch_id) FILTER (WHERE s.fresh)
	INTO applied, sums
	FROM (
		SELECT u.batch_id, sum(u.n) AS n, bool_or(u.fresh <> 0) AS fresh,
			count(*) FILTER (WHERE u.fresh & 1 <> 0) AS c0,
			count(*) FILTER (WHERE u.fresh & 2 <> 0) AS c1,
			count(*) FILTER (WHERE u.fresh & 4 <> 0) AS c2,
			count(*) FILTER (WHERE u.fresh & 8 <> 0) AS c3,
			count(*) FILTER (WHERE u.fresh & 16 <> 0) AS c4,
			count(*) FILTER (WHERE u.fresh & 32 <> 0) AS c5,
			count(*) FILTER (WHERE u.fresh & 64 <> 0) AS c6,
			count(*) FILTER (WHERE u.fresh & 128 <> 0) AS c7,
			count(*) FILTER (WHERE u.fresh & 256 <> 0) AS c8,
			count(*) FILTER (WHERE u.fresh & 512 <> 0) AS c9,
			count(*) FILTER (WHERE u.first) AS firsts, count(*) FILTER (WHERE u.finished) AS finishes
		FROM applied u
		GROUP BY u.batch_id
	) s;
	IF applied <> (SELECT count(*) FROM unnest(ids) i WHERE i <> 0) THEN
		RAISE EXCEPTION 'a recipient was deleted meanwhile, or has another id'
			USING ERRCODE = 'serialization_failure';
	END IF;
	FOR b IN
		INSERT INTO weir.message_batches AS m (id, tool, queued, sent, deferred, delivered, opened, clicked,
			bounced, failed, complained, unsubscribed, unique_recipients, finished)
		SELECT s.id, s.tool, s.queued, s.sent, s.deferred, s.delivered, s.opened, s.clicked,
			s.bounced, s.failed, s.complained, s.unsubscribed, s.unique_recipients, s.finished
		FROM unnest(sums) s
		ON CONFLICT (id) DO UPDATE SET
			queued = LEAST(m.total, m.queued + excluded.queued),
			sent = LEAST(m.total, m.sent + excluded.sent),
			deferred = LEAST(m.total, m.deferred + excluded.deferred),
			delivered = LEAST(m.total, m.delivered + excluded.delivered),
			opened = LEAST(m.total, m.opened + excluded.opened),
			clicked = LEAST(m.total, m.clicked + excluded.clicked),
			bounced = LEAST(m.total, m.bounced + excluded.bounced),
			failed = LEAST(m.total, m.failed + excluded.failed),
			complained = LEAST(m.total, m.complained + excluded.complained),
			unsubscribed = LEAST(m.total, m.unsubscribed + excluded.unsubscribed),
			unique_recipients = LEAST(m.total, m.unique_recipients + excluded.unique_recipients),
			finished = LEAST(m.total, m.finished + excluded.finished),
			version = weir.next_version(m.version),
			completed_at = COALESCE(m.completed_at, CASE
				WHEN m.finished + excluded.finished >= GREATEST(m.total, m.expected) THEN clock_timestamp() END),
			completed_now = m.completed_at IS NULL
				AND m.finished + excluded.finished >= GREATEST(m.total, m.expected)
		RETURNING m.*
	LOOP
		IF b.tool = '' THEN
			RAISE EXCEPTION 'a message batch was deleted meanwhile'
				USING ERRCODE = 'serialization_failure';
		END IF;
		IF b.completed_now THEN
			PERFORM weir.tell_completed(b);
		END IF;
		RETURN NEXT b;
	END LOOP;
END
$$;

-- The delivery reports of a batch of events, one element of each array for each report: the event's
-- key and uid, whom it is about, what happened, and the recipient's id if somebody thinks to know it
-- (else NULL). Stands in the transaction that stores the events, behind that statement. Only reports of
-- events that are fresh in this transaction count: those whose key this very transaction claimed. (The
-- setting weir.all_fresh, if the statement that claims them made it 'true' for the transaction, saves
-- looking.) Returns the message batches that changed.
--
-- A report that finds no recipient waits in recipient_events for its registration, and the two must
-- not miss each other: neither sees what the other has not committed. So they meet at an advisory lock
-- for the message id (one of 64). A report takes it shared, then looks for its recipient once more;
-- a registration takes it alone at its very end, when it commits, then looks for reports once more.
-- Each look is a statement of its own and so (READ COMMITTED) has a snapshot younger than the lock.
-- Whoever comes second sees what the first one did, because locks are given up after the commit
-- is visible. A registration that stays open for long makes nobody wait: until it commits it has
-- none of these locks.
--
-- Whether the ids that came along are right is seen where the recipients are updated: looking before
-- would cost a quarter of the whole. If one is wrong, all that was done is undone, and so given free what
-- was locked (locks have an order), and every id is looked up.
CREATE FUNCTION weir.apply_reports(keys uuid[], uids uuid[], tools text[], message_ids text[],
	addresses text[], statuses smallint[], softs boolean[], ats timestamptz[], hints bigint[])
RETURNS SETOF weir.message_batches
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
	me xid := pg_current_xact_id()::xid;
	known bigint[] := array_replace(hints, 0, NULL); -- 0: not fresh; NULL: unknown
	ids bigint[];
	place integer;
BEGIN
	IF COALESCE(current_setting('weir.all_fresh', true), '') <> 'true' THEN
		SELECT array_agg(CASE
			WHEN (SELECT k.uid FROM weir.event_keys_0 k WHERE k.key = i.key AND k.xmin = me) = i.uid
				OR (SELECT k.uid FROM weir.event_keys_1 k WHERE k.key = i.key AND k.xmin = me) = i.uid
			THEN i.id ELSE 0 END)
		INTO known
		FROM (SELECT unnest(keys) AS key, unnest(uids) AS uid, unnest(known) AS id) i;
	END IF;
	FOR try IN 1 .. 2 LOOP
		BEGIN
			ids := weir.find_recipients(known, tools, message_ids, addresses);
			IF array_position(ids, NULL) IS NOT NULL THEN
				FOR place IN
					SELECT DISTINCT weir.meeting_place(i.message_id)
					FROM (SELECT unnest(ids) AS id, unnest(message_ids) AS message_id) i
					WHERE i.id IS NULL ORDER BY 1
				LOOP
					PERFORM pg_advisory_xact_lock_shared(2003134834, place);
				END LOOP;
				ids := weir.find_recipients(ids, tools, message_ids, addresses);
				INSERT INTO weir.recipient_events (tool, message_id, address, status, soft, at, event_uid)
				SELECT i.tool, i.message_id, i.address, i.status, i.soft, i.at, i.uid
				FROM (SELECT unnest(ids) AS id, unnest(tools) AS tool, unnest(message_ids) AS message_id,
					unnest(addresses) AS address, unnest(statuses) AS status, unnest(softs) AS soft,
					unnest(ats) AS at, unnest(uids) AS uid) i
				WHERE i.id IS NULL;
			END IF;
			RETURN QUERY SELECT * FROM weir.apply_to_recipients(ids, tools, message_ids, addresses,
				statuses, softs, ats);
			RETURN;
		EXCEPTION WHEN serialization_failure THEN
			IF try = 2 THEN
				RAISE;
			END IF;
			SELECT array_agg(CASE i WHEN 0 THEN 0 END) INTO known FROM unnest(known) i;
		END;
	END LOOP;
END
$$;

-- The ids in place of those that are NULL, as far as recipients are registered. Planned under the
-- settings of its caller.
CREATE FUNCTION weir.find_recipients(ids bigint[], tools text[], message_ids text[], addresses text[])
RETURNS bigint[]
LANGUAGE plpgsql AS $$
BEGIN
	IF array_position(ids, NULL) IS NULL THEN
		RETURN ids;
	END IF;
	RETURN (
		SELECT array_agg(COALESCE(i.id, (SELECT r.id FROM weir.recipients r
			WHERE r.message_id = i.message_id AND r.address = i.address AND r.tool = i.tool)))
		FROM (SELECT unnest(ids) AS id, unnest(tools) AS tool, unnest(message_ids) AS message_id,
			unnest(addresses) AS address) i);
END
$$;

CREATE FUNCTION weir.meeting_place(message_id text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT 1000 + (hashtext(message_id COLLATE "C") & 63)
$$;

-- Applies the reports that wait for these recipients. Planned at each call: the two tables' sizes
-- differ by whatever factor.
CREATE FUNCTION weir.apply_waiting(recipient_ids bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	waiting bigint[];
	ids bigint[];
	tools text[];
	message_ids text[];
	addresses text[];
	statuses smallint[];
	softs boolean[];
	ats timestamptz[];
BEGIN
	EXECUTE 'SELECT array_agg(e.id), array_agg(r.id), array_agg(r.tool), array_agg(r.message_id),'
		' array_agg(r.address), array_agg(e.status), array_agg(e.soft), array_agg(e.at)'
		' FROM unnest($1) n JOIN weir.recipients r ON r.id = n'
		' JOIN weir.recipient_events e USING (message_id, address, tool)'
		INTO waiting, ids, tools, message_ids, addresses, statuses, softs, ats USING recipient_ids;
	IF waiting IS NULL THEN
		RETURN;
	END IF;
	DELETE FROM weir.recipient_events WHERE id = ANY (waiting);
	PERFORM weir.apply_to_recipients(ids, tools, message_ids, addresses, statuses, softs, ats);
END
$$;

-- At the end of a transaction that registered recipients, for all that it registered at once. What
-- others may wait for is locked only from here on, up to the commit that follows.
CREATE FUNCTION weir.settle_registrations() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	recipient_ids bigint[];
	one record;
BEGIN
	SELECT array_agg(n) INTO recipient_ids
	FROM weir.message_batch_registrations r, unnest(r.recipient_ids) n
	WHERE r.transaction = pg_current_xact_id();
	FOR one IN
		SELECT DISTINCT weir.meeting_place(r.message_id) AS place
		FROM weir.recipients r WHERE r.id = ANY (recipient_ids) ORDER BY 1
	LOOP
		PERFORM pg_advisory_xact_lock(2003134834, one.place);
	END LOOP;
	FOR one IN
		SELECT r.batch_id, sum(cardinality(r.recipient_ids)) FILTER (WHERE NOT r.counted) AS n,
			max(r.expected) AS expected
		FROM weir.message_batch_registrations r
		WHERE r.transaction = pg_current_xact_id()
		GROUP BY r.batch_id HAVING bool_or(NOT r.counted)
		ORDER BY r.batch_id
	LOOP
		UPDATE weir.message_batches m
		SET total = m.total + one.n, expected = GREATEST(m.expected, one.expected),
			version = weir.next_version(m.version), completed_now = false
		WHERE m.id = one.batch_id;
	END LOOP;
	DELETE FROM weir.message_batch_registrations WHERE transaction = pg_current_xact_id();
	PERFORM weir.apply_waiting(recipient_ids);
	RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER settle_registrations AFTER INSERT ON weir.message_batch_registrations
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION weir.settle_registrations();

-- Registers recipients, [{"message_id": "…", "address": "…"}, …], as members of a message batch, which
-- is made if it is new; returns how many of them were new. Repeatable: who is registered stays as he
-- is. Reports that came before are applied when the transaction commits. A mailing that is registered
-- in parts names in `expected` how many recipients it will have, and is not complete before.
CREATE FUNCTION weir.register_message_batch(batch_id text, tool text, recipients jsonb, expected integer DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	me CONSTANT text := 'register_message_batch: ';
	a_batch CONSTANT text := batch_id;
	a_tool CONSTANT text := tool;
	a_size CONSTANT integer := expected;
	bad record;
	made boolean;
	of_tool text;
	message_ids text[];
	addresses text[];
	new_ids bigint[];
BEGIN
	IF a_batch IS NULL OR a_tool IS NULL OR recipients IS NULL THEN
		RAISE EXCEPTION '%batch_id, tool and recipients must not be NULL', me USING ERRCODE = '22004';
	END IF;
	IF octet_length(a_batch) NOT BETWEEN 1 AND 200 OR a_batch ~ '[\x01-\x1f\x7f]' THEN
		RAISE EXCEPTION '%batch_id must be 1 to 200 bytes without control characters', me USING ERRCODE = '22023';
	END IF;
	IF a_tool !~ '^[a-z0-9][a-z0-9._-]{0,63}$' OR a_tool = 'weir' THEN
		RAISE EXCEPTION '%tool "%" cannot be a tool''s id', me, left(a_tool, 80) USING ERRCODE = '22023';
	END IF;
	IF jsonb_typeof(recipients) <> 'array' THEN
		RAISE EXCEPTION '%recipients must be an array of objects with message_id and address', me
			USING ERRCODE = '22023';
	END IF;
	IF a_size < 1 THEN
		RAISE EXCEPTION '%expected must be at least 1', me USING ERRCODE = '22023';
	END IF;
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION '%needs a READ COMMITTED transaction, to see reports that are stored at the same time', me
			USING ERRCODE = '25001';
	END IF;

	SELECT i.n - 1 AS n, CASE
		WHEN jsonb_typeof(i.o) <> 'object' THEN 'must be an object'
		WHEN jsonb_typeof(i.o -> 'message_id') IS DISTINCT FROM 'string' THEN 'message_id must be a string'
		WHEN jsonb_typeof(i.o -> 'address') IS DISTINCT FROM 'string' THEN 'address must be a string'
		WHEN octet_length(weir.recipient_text(i.o ->> 'message_id')) NOT BETWEEN 1 AND 1000
			OR i.o ->> 'message_id' ~ '[\x01-\x1f\x7f]'
			THEN 'message_id must be 1 to 1000 bytes without control characters'
		WHEN octet_length(weir.recipient_text(i.o ->> 'address')) NOT BETWEEN 1 AND 320
			OR i.o ->> 'address' ~ '[\x01-\x1f\x7f]'
			THEN 'address must be 1 to 320 bytes without control characters'
		END AS why
	INTO bad
	FROM jsonb_array_elements(recipients) WITH ORDINALITY i(o, n)
	WHERE jsonb_typeof(i.o) <> 'object'
		OR jsonb_typeof(i.o -> 'message_id') IS DISTINCT FROM 'string'
		OR jsonb_typeof(i.o -> 'address') IS DISTINCT FROM 'string'
		OR octet_length(weir.recipient_text(i.o ->> 'message_id')) NOT BETWEEN 1 AND 1000
		OR i.o ->> 'message_id' ~ '[\x01-\x1f\x7f]'
		OR octet_length(weir.recipient_text(i.o ->> 'address')) NOT BETWEEN 1 AND 320
		OR i.o ->> 'address' ~ '[\x01-\x1f\x7f]'
	ORDER BY i.n LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION '%recipients[%]: %', me, bad.n, bad.why USING ERRCODE = '22023';
	END IF;

	INSERT INTO weir.message_batches AS m (id, tool) VALUES (a_batch, a_tool) ON CONFLICT DO NOTHING;
	SELECT m.tool, m.xmin = pg_current_xact_id()::xid AND m.completed_at IS NULL INTO STRICT of_tool, made
	FROM weir.message_batches m WHERE m.id = a_batch;
	IF of_tool <> a_tool THEN
		RAISE EXCEPTION '%message batch "%" belongs to tool "%"', me, a_batch, of_tool USING ERRCODE = '23505';
	END IF;

	SELECT array_agg(i.message_id), array_agg(i.address) INTO message_ids, addresses
	FROM (SELECT DISTINCT weir.recipient_text(o ->> 'message_id') COLLATE "C" AS message_id,
			lower(weir.recipient_text(o ->> 'address') COLLATE "C") AS address
		FROM jsonb_array_elements(recipients) o
		ORDER BY 1, 2) i;
	WITH new AS (
		INSERT INTO weir.recipients (tool, message_id, address, batch_id)
		SELECT a_tool, i.message_id, i.address, a_batch
		FROM (SELECT unnest(message_ids) AS message_id, unnest(addresses) AS address) i
		ON CONFLICT DO NOTHING
		RETURNING id
	)
	SELECT array_agg(id) INTO new_ids FROM new;
	IF COALESCE(cardinality(new_ids), 0) < COALESCE(cardinality(message_ids), 0) THEN
		SELECT r.* INTO bad
		FROM unnest(message_ids, addresses) i(message_id, address)
		JOIN weir.recipients r ON r.message_id = i.message_id AND r.address = i.address AND r.tool = a_tool
		WHERE r.batch_id <> a_batch LIMIT 1;
		IF FOUND THEN
			RAISE EXCEPTION '%recipient "%" of message "%" belongs to message batch "%"', me,
				bad.address, bad.message_id, bad.batch_id USING ERRCODE = '23505';
		END IF;
	END IF;

	-- A batch that this transaction made is seen by nobody else, so that it need not wait for the end.
	IF made THEN
		UPDATE weir.message_batches m
		SET total = m.total + COALESCE(cardinality(new_ids), 0), expected = GREATEST(m.expected, a_size),
			version = weir.next_version(m.version), completed_now = false
		WHERE m.id = a_batch;
	END IF;
	IF new_ids IS NOT NULL OR NOT made AND a_size IS NOT NULL THEN
		INSERT INTO weir.message_batch_registrations (batch_id, recipient_ids, expected, counted)
		VALUES (a_batch, COALESCE(new_ids, '{}'), a_size, made);
	END IF;
	RETURN COALESCE(cardinality(new_ids), 0);
END
$$;

-- Forgets a message batch and its recipients; returns how many. Reports that come later find nobody.
CREATE FUNCTION weir.delete_message_batch(batch_id text) RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	a_batch CONSTANT text := batch_id;
	n integer;
BEGIN
	PERFORM FROM weir.recipients r WHERE r.batch_id = a_batch ORDER BY r.id FOR UPDATE;
	DELETE FROM weir.recipients r WHERE r.batch_id = a_batch;
	GET DIAGNOSTICS n = ROW_COUNT;
	DELETE FROM weir.message_batches m WHERE m.id = a_batch;
	RETURN n;
END
$$;

-- Deletes at most `at_most` reports that waited for their recipient since before `cutoff`; returns how
-- many.
CREATE FUNCTION weir.prune_recipient_events(cutoff timestamptz, at_most integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
	n integer;
BEGIN
	DELETE FROM weir.recipient_events WHERE id IN (
		SELECT e.id FROM weir.recipient_events e WHERE e.stored_at < cutoff
		ORDER BY e.stored_at LIMIT at_most FOR UPDATE SKIP LOCKED);
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;

-- As redis-cli reads one word.
CREATE FUNCTION weir.redis_word(word text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT '"' || replace(replace(word, '\', '\\'), '"', '\"') || '"'
$$;

-- Commands for redis-cli that write the hashes of message batches anew, those of the last 7 days and
-- those that are not complete, under weir's key prefix. As weir itself does it (recipient_counters.c):
-- an older state never wins.
CREATE FUNCTION weir.message_batch_commands(prefix text DEFAULT '') RETURNS SETOF text
LANGUAGE sql STABLE
SET TimeZone = 'UTC'
AS $$
	SELECT format('EVAL "local had = redis.call(''HGET'', KEYS[1], ''version'')'
		' if had and tonumber(had) >= tonumber(ARGV[2]) then return 0 end'
		' redis.call(''HSET'', KEYS[1], ''version'', ARGV[2], unpack(ARGV, 3))'
		' redis.call(''PEXPIRE'', KEYS[1], ARGV[1]) return 1" 1 %s 604800000 %s', weir.redis_word(prefix || 'message_batch:' || b.id),
		b.version) || string_agg(format(' %s %s', f.key, weir.redis_word(COALESCE(f.value, ''))), '')
	FROM weir.message_batches b, LATERAL (VALUES
		('tool', b.tool::text),
		('total', b.total::text),
		('expected', b.expected::text),
		('queued', b.queued::text),
		('sent', b.sent::text),
		('deferred', b.deferred::text),
		('delivered', b.delivered::text),
		('opened', b.opened::text),
		('clicked', b.clicked::text),
		('bounced', b.bounced::text),
		('failed', b.failed::text),
		('complained', b.complained::text),
		('unsubscribed', b.unsubscribed::text),
		('unique_recipients', b.unique_recipients::text),
		('finished', b.finished::text),
		('created_at', b.created_at::text),
		('completed_at', b.completed_at::text)
	) f(key, value)
	WHERE b.completed_at IS NULL OR b.completed_at > now() - interval '7 days'
	GROUP BY b.id, b.version
$$;

-- These act with the rights of their owner: to be granted to the applications that call them.
REVOKE ALL ON FUNCTION weir.register_message_batch(text, text, jsonb, integer), weir.delete_message_batch(text),
	weir.settle_registrations() FROM PUBLIC;

-- migrate:down

DROP FUNCTION weir.message_batch_commands(text);
DROP FUNCTION weir.redis_word(text);
DROP FUNCTION weir.prune_recipient_events(timestamptz, integer);
DROP FUNCTION weir.delete_message_batch(text);
DROP FUNCTION weir.register_message_batch(text, text, jsonb, integer);
DROP TABLE weir.message_batch_registrations;
DROP FUNCTION weir.settle_registrations();
DROP FUNCTION weir.apply_waiting(bigint[]);
DROP FUNCTION weir.apply_reports(uuid[], uuid[], text[], text[], text[], smallint[], boolean[], timestamptz[], bigint[]);
DROP FUNCTION weir.find_recipients(bigint[], text[], text[], text[]);
DROP FUNCTION weir.meeting_place(text);
DROP FUNCTION weir.apply_to_recipients(bigint[], text[], text[], text[], smallint[], boolean[], timestamptz[]);
DROP FUNCTION weir.tell_completed(weir.message_batches);
DROP FUNCTION weir.message_batch_json(weir.message_batches);
DROP FUNCTION weir.recipient_text(text);
DROP FUNCTION weir.uuid7();
DROP FUNCTION weir.next_version(bigint);
DROP TABLE weir.recipient_events;
DROP TABLE weir.message_batches;
DROP TABLE weir.recipients;
