-- Tools that are changed while weir runs, and the record of who changed what.

-- migrate:up

-- Secrets are named ({"env"} or {"file"}), never written down here: what is in a table is in its
-- backups too.
CREATE FUNCTION weir.has_literal_secret(definition jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_path_exists(definition, '$.secrets[*] ? (@.type() != "object")')
		OR jsonb_path_exists(definition, '$.secrets[*].value')
		OR jsonb_path_exists(definition, '$.verify_token ? (@.type() != "object")')
		OR jsonb_path_exists(definition, '$.verify_token.value')
$$;

-- `version` grows with every change of any tool. All that changes the table takes the same advisory
-- lock (class 2003134834, see 0001; 4: tools), so versions are committed in their order.
CREATE SEQUENCE weir.tools_version;
CREATE TABLE weir.tools (
	id text PRIMARY KEY
		CONSTRAINT tools_id CHECK (id ~ '^[a-z0-9][a-z0-9._-]{0,63}$' AND id <> 'weir'),
	definition jsonb NOT NULL
		CONSTRAINT tools_definition CHECK (jsonb_typeof(definition) = 'object')
		CONSTRAINT tools_no_literal_secret CHECK (NOT weir.has_literal_secret(definition)),
	version bigint NOT NULL,
	updated_at timestamptz NOT NULL,
	updated_by text NOT NULL DEFAULT current_user
);

-- Kept as long as the database is: changes by people are few.
CREATE TABLE weir.audit_log (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at timestamptz NOT NULL DEFAULT clock_timestamp(),
	actor text NOT NULL,    -- which token: admin
	peer text NOT NULL,     -- the address that it came from
	request_id text NOT NULL,
	action text NOT NULL,   -- tool.put, tool.delete
	object text NOT NULL,   -- the tool's id
	before jsonb,           -- NULL: it was not there
	after jsonb             -- NULL: it is gone
);
CREATE INDEX audit_log_object ON weir.audit_log (object, id);

CREATE FUNCTION weir.stamp_tool() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock(2003134834, 4);
	NEW.version := nextval('weir.tools_version');
	NEW.updated_at := clock_timestamp();
	RETURN NEW;
END
$$;
CREATE TRIGGER tools_stamp BEFORE INSERT OR UPDATE ON weir.tools
	FOR EACH ROW EXECUTE FUNCTION weir.stamp_tool();

-- Every process listens, and reads the table again. Also for changes that somebody makes by hand.
CREATE FUNCTION weir.tell_tools() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_notify('weir_tools', '');
	RETURN NULL;
END
$$;
CREATE TRIGGER tools_tell AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON weir.tools
	FOR EACH STATEMENT EXECUTE FUNCTION weir.tell_tools();

-- `expected`: the version that the caller has seen, 0 for none, NULL for any.
-- Outcomes: created, updated, unchanged, mismatch, full.
CREATE FUNCTION weir.put_tool(tool text, new_definition jsonb, actor text, peer text, request_id text, expected bigint)
RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	old weir.tools;
BEGIN
	PERFORM pg_advisory_xact_lock(2003134834, 4);
	SELECT t.* INTO old FROM weir.tools t WHERE t.id = tool FOR UPDATE;
	IF expected <> coalesce(old.version, 0) THEN
		RETURN 'mismatch';
	ELSIF old.definition = new_definition THEN
		RETURN 'unchanged';
	ELSIF old.id IS NULL AND (SELECT count(*) FROM weir.tools) >= 10000 THEN
		RETURN 'full';
	END IF;
	INSERT INTO weir.tools (id, definition, updated_by) VALUES (tool, new_definition, actor || '@' || peer)
	ON CONFLICT (id) DO UPDATE SET definition = excluded.definition, updated_by = excluded.updated_by;
	INSERT INTO weir.audit_log (actor, peer, request_id, action, object, before, after)
	VALUES (actor, peer, request_id, 'tool.put', tool, old.definition, new_definition);
	RETURN CASE WHEN old.id IS NULL THEN 'created' ELSE 'updated' END;
END
$$;

-- Outcomes: deleted, absent, mismatch.
CREATE FUNCTION weir.delete_tool(tool text, actor text, peer text, request_id text, expected bigint)
RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	old weir.tools;
BEGIN
	PERFORM pg_advisory_xact_lock(2003134834, 4);
	SELECT t.* INTO old FROM weir.tools t WHERE t.id = tool FOR UPDATE;
	IF old.id IS NULL THEN
		RETURN 'absent';
	ELSIF expected <> old.version THEN
		RETURN 'mismatch';
	END IF;
	DELETE FROM weir.tools t WHERE t.id = tool;
	INSERT INTO weir.audit_log (actor, peer, request_id, action, object, before, after)
	VALUES (actor, peer, request_id, 'tool.delete', tool, old.definition, NULL);
	RETURN 'deleted';
END
$$;

-- migrate:down

DROP FUNCTION weir.delete_tool(text, text, text, text, bigint);
DROP FUNCTION weir.put_tool(text, jsonb, text, text, text, bigint);
DROP TABLE weir.audit_log;
DROP TABLE weir.tools;
DROP SEQUENCE weir.tools_version;
DROP FUNCTION weir.tell_tools();
DROP FUNCTION weir.stamp_tool();
DROP FUNCTION weir.has_literal_secret(jsonb);
