-- Which slot a batch of new keys goes to, for writers that claim them with a plain INSERT.

-- migrate:up

-- The current slot, if the other one holds none of `keys`; else unique_violation of the constraint
-- event_keys_before, as if one primary key spanned both. The caller holds the lock of event keys
-- since an earlier statement, see weir.event_key_generation. The planner must take the index whatever
-- it believes of a table that was never analysed, and must not weigh each batch's array anew.
CREATE FUNCTION weir.slot_of_new_keys(keys uuid[]) RETURNS smallint
LANGUAGE plpgsql STABLE
SET enable_seqscan = 'off'
SET plan_cache_mode = 'force_generic_plan'
AS $$
DECLARE
	slot smallint := (SELECT g.slot FROM weir.event_key_generation g);
BEGIN
	IF slot = 0 AND EXISTS (SELECT FROM weir.event_keys_1 o WHERE o.key = ANY (keys))
		OR slot = 1 AND EXISTS (SELECT FROM weir.event_keys_0 o WHERE o.key = ANY (keys))
	THEN
		RAISE unique_violation
			USING MESSAGE = 'the generation before holds one of the keys', CONSTRAINT = 'event_keys_before';
	END IF;
	RETURN slot;
END
$$;

-- migrate:down

DROP FUNCTION weir.slot_of_new_keys(uuid[]);
